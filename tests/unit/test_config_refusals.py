"""`mini-pacs config check` refuses what would keep processes from starting, and warns of certificates."""

import os
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support import certificates

from gateway import config
from gateway.config import Configuration
from gateway.diagnosis.certificates import validities, warnings
from gateway.diagnosis.startable import in_use, refusals
from gateway.lab import layout


def configured(folder: Path, edge: Any = None, tls_of_pacs: Any = None) -> Configuration:
    """Return a lab's configuration with free ports and these changes."""
    content = layout.configuration(layout.choose_ports(well_known=False), {"edge": edge or {}})
    if tls_of_pacs is not None:
        content["forwarder"]["orthanc"]["tls"] = tls_of_pacs
    return config.load(layout.write(folder, content))


def refused(configuration: Configuration) -> str:
    """Every refusal, one a line."""
    return "\n".join(refusals(configuration))


def make(folder: Path, days: int) -> tuple[Path, Path]:
    """Return a certificate that is valid for so many days, and its key."""
    certificate, key = folder / f"{days}.pem", folder / f"{days}.key"
    words = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", str(days))
    command = ["openssl", *words, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, capture_output=True, check=True, timeout=60)
    return certificate, key


def test_a_lab_is_accepted_and_no_folder_is_made(tmp_path: Path) -> None:
    """The check creates no folder."""
    configuration = configured(tmp_path / "lab")
    assert refused(configuration) == ""
    assert [path.name for path in (tmp_path / "lab").iterdir()] == ["config.yaml"]


def test_unusable_certificates_are_named(tmp_path: Path) -> None:
    """Missing, for another key, not PEM; of the edge and of a destination."""
    certificate, key = make(tmp_path, 30)
    other, _ = make(tmp_path, 31)
    (tmp_path / "text.pem").write_text("no PEM")
    edge = {"certificate": str(certificate), "key": str(key), "client_certificate": "none"}
    assert refused(configured(tmp_path / "right", {"tls": edge})) == ""
    gone = refused(configured(tmp_path / "gone", {"tls": {**edge, "key": "gone.key"}}))
    assert "edge.tls.key" in gone
    assert "No such file" in gone
    assert "KEY_VALUES_MISMATCH" in refused(
        configured(tmp_path / "mixed", {"tls": {**edge, "certificate": str(other)}})
    )
    pacs = refused(configured(tmp_path / "pacs", tls_of_pacs={"ca": str(tmp_path / "text.pem")}))
    assert "tls of destination ORTHANC.ca" in pacs


@pytest.mark.parametrize(("key", "value"), [("data_root", "file/data"), ("data_root", "file")])
def test_a_spool_that_cannot_be_created_is_refused(tmp_path: Path, key: str, value: str) -> None:
    """A file is in the place of a folder."""
    folder = tmp_path / "edge"
    configuration = configured(folder, {key: value})
    (folder / "file").write_text("")
    assert f"edge.{key} = {folder / value}: " in refused(configuration)


def test_a_part_of_the_spool_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """`serve` would refuse it, too."""
    configuration = configured(tmp_path / "edge")
    configuration.edge.data_root.mkdir()
    (configuration.edge.data_root / "queued").write_text("")
    assert "queued is a file; a folder is expected" in refused(configuration)


@pytest.mark.parametrize("value", ["file/edge.log", "logs"])
def test_a_log_that_cannot_be_written_is_refused(tmp_path: Path, value: str) -> None:
    """Its path is below a file, or is a folder."""
    folder = tmp_path / "edge"
    configuration = configured(folder, {"log_path": value})
    (folder / "file").write_text("")
    (folder / "logs").mkdir()
    assert "edge.log_path" in refused(configuration)


@pytest.mark.parametrize("address", ["192.0.2.1", "nobody.invalid", "::ffff:192.0.2.1"])
def test_an_address_that_is_not_of_this_machine_is_refused(tmp_path: Path, address: str) -> None:
    """`serve` could not listen there."""
    assert "edge.bind_address" in refused(configured(tmp_path, {"bind_address": address}))


def test_a_port_in_use_is_no_refusal_since_the_edge_may_run(tmp_path: Path) -> None:
    """It is reported only."""
    configuration = configured(tmp_path)
    assert not in_use(configuration.edge)
    with socket.create_server((configuration.edge.bind_address, configuration.edge.port)):
        assert in_use(configuration.edge)
        assert refused(configuration) == ""


@pytest.mark.parametrize("days", [1, 13, 15, 400, 12_000])
def test_the_expiry_date_of_a_certificate_is_read(tmp_path: Path, days: int) -> None:
    """As openssl prints it, also after 2049, where the time is encoded in another form."""
    certificate, _ = make(tmp_path, days)
    [validity] = validities(certificate)
    words = ["openssl", "x509", "-noout", "-enddate", "-in", str(certificate)]
    said = subprocess.run(words, capture_output=True, check=True, text=True, timeout=60).stdout.strip()
    assert validity.ends.strftime("notAfter=%b %e %H:%M:%S %Y GMT") == said


@pytest.mark.parametrize(("days", "is_said"), [(1, True), (13, True), (16, False), (400, False)])
def test_a_certificate_that_ends_within_14_days_is_warned_of(
    tmp_path: Path,
    days: int,
    is_said: bool,  # noqa: FBT001  a column
) -> None:
    """The edge's and a destination's, with the date and the consequence."""
    certificate, key = make(tmp_path, days)
    edge = {"certificate": str(certificate), "key": str(key), "client_certificate": "none"}
    pacs = {"certificate": str(certificate), "key": str(key), "verify": "none"}
    configuration = configured(tmp_path / "edge", {"tls": edge}, pacs)
    said = list(warnings(configuration, datetime.now(UTC)))
    assert [("edge.tls.certificate" in one, "ORTHANC" in one) for one in said] == (
        [(True, False), (False, True)] if is_said else []
    )
    assert all("ends in" in one and "renew it" in one for one in said)


def test_certificates_that_have_ended_or_not_begun_are_warned_of(tmp_path: Path) -> None:
    """Every connection fails then. An authority counts only if no other of its file is valid."""
    made = certificates.make(tmp_path / "made")
    long, key = make(tmp_path, 400)
    edge = {"certificate": str(made.expired.certificate), "key": str(made.expired.key), "ca": str(made.ca)}
    configuration = configured(tmp_path / "edge", {"tls": edge})
    [ended, authority] = warnings(configuration, datetime.now(UTC))
    assert "ended at 2020-01-02" in ended
    assert "edge.tls.ca" in authority
    made.ca.write_bytes(made.ca.read_bytes() + long.read_bytes())
    assert len(list(warnings(configuration, datetime.now(UTC)))) == 1
    future = configured(tmp_path / "future", {"tls": {**edge, "certificate": str(long), "key": str(key)}})
    [early] = warnings(future, datetime.now(UTC) - timedelta(days=30))
    assert "is not valid before" in early


def test_a_file_that_is_no_certificate_is_no_warning(tmp_path: Path) -> None:
    """It is a refusal, as OpenSSL decides."""
    path = tmp_path / "x.pem"
    for content in (
        b"",
        os.urandom(1000),
        b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
    ):
        path.write_bytes(content)
        assert validities(path) == []
    assert validities(tmp_path / "gone.pem") == []
