"""`mini-pacs config check`: what it warns of, and what it accepts silently."""

from pathlib import Path
from typing import Any

import pytest

from cli.configuration import warnings
from gateway import config
from gateway.lab import layout

WORKERS = list(layout.WORKERS)


def said(folder: Path, **edge: Any) -> str:
    """Every warning about a lab's configuration with these changes, one a line."""
    ports = layout.Ports(11112, 4242, 8042, (11201, 11202, 11203, 11204, 11205))
    written = layout.write(folder, layout.configuration(ports, {"edge": edge}))
    return "\n".join(warnings(config.load(written), {}))


def test_a_lab_on_loopback_needs_no_addresses(tmp_path: Path) -> None:
    """No other machine can connect."""
    assert "any address" not in said(tmp_path)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.1"])  # noqa: S104  nobody binds here
def test_titles_without_an_address_are_named_where_other_machines_can_connect(
    tmp_path: Path, address: str
) -> None:
    """Only those; and not where a client certificate is required."""
    allowed = ["ORTHANC@10.0.0.0/8", "CT1", *(f"{title}@127.0.0.1" for title in WORKERS)]
    words = said(tmp_path / "plain", bind_address=address, allowed_calling_aets=allowed)
    assert "lets CT1 in from any address" in words
    tls = {"certificate": "a.pem", "key": "a.key", "ca": "ca.pem"}
    assert "any address" not in said(
        tmp_path / "tls", bind_address=address, allowed_calling_aets=allowed, tls=tls
    )


def test_a_worker_that_could_not_return_its_results_is_named(tmp_path: Path) -> None:
    """Its address is not on the allowlist; a host name or no address gives no warning."""
    allowed = ["ORTHANC", "APP01@10.0.0.0/8", "APP02@127.0.0.1", "APP03@localhost", "APP04", "APP05"]
    words = said(tmp_path, allowed_calling_aets=allowed)
    assert "APP01 is reached at 127.0.0.1" in words
    assert not any(f"{title} is reached" in words for title in WORKERS[1:])


@pytest.mark.parametrize(
    ("mode", "open_to_others"), [(0o600, False), (0o640, False), (0o644, True), (0o660, True)]
)
def test_a_key_that_others_can_read_is_named(tmp_path: Path, mode: int, open_to_others: bool) -> None:  # noqa: FBT001  a column
    """The edge's private key: whoever has it can pass for the edge."""
    key = tmp_path / "edge.key"
    key.touch()
    key.chmod(mode)
    tls = {"certificate": "edge.pem", "key": str(key), "client_certificate": "none"}
    assert (f"edge.tls.key {key} is open" in said(tmp_path, tls=tls)) is open_to_others


def test_a_spool_and_a_log_that_others_can_read_are_named(tmp_path: Path) -> None:
    """They hold images of patients, and who sent what."""
    for name, mode in (("data", 0o755), ("edge.log", 0o644)):
        path = tmp_path / name
        path.mkdir() if name == "data" else path.touch()
        path.chmod(mode)
    words = said(tmp_path, log_path="edge.log")
    assert "edge.data_root" in words
    assert "edge.log_path" in words
    for name in ("data", "edge.log"):
        (tmp_path / name).chmod(0o750)
    assert "is open to" not in said(tmp_path)


def test_contexts_that_decline_common_senders_are_named(tmp_path: Path) -> None:
    """And UIDs of another kind than their key needs; private UIDs are accepted."""
    words = said(
        tmp_path / "odd",
        additional_sop_classes=["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.31", "1.2.276.0.7.1"],
        accepted_transfer_syntaxes=["1.2.840.10008.1.2.1", "1.2.840.10008.1.1"],
    )
    assert "CT Image Storage (1.2.840.10008.5.1.4.1.1.2), which is accepted without it" in words
    assert "(1.2.840.10008.5.1.4.31), which is no Storage SOP Class" in words
    assert "1.2.276.0.7.1" not in words
    assert "Verification SOP Class (1.2.840.10008.1.1), which is no transfer syntax" in words
    assert "accepted_transfer_syntaxes lacks Implicit VR Little Endian" in words
    plain = {"accepted_transfer_syntaxes": ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]}
    assert "edge.accepted_transfer_syntaxes" not in said(tmp_path / "plain", **plain)


@pytest.mark.parametrize(
    ("length", "mode", "words"),
    [
        (32, 0o400, ""),
        (32, 0o644, "other users"),
        (31, 0o400, "31 bytes"),
        (None, 0, "No such file"),
    ],
)
def test_a_key_of_the_search_that_cannot_be_used_is_named(
    tmp_path: Path, length: int | None, mode: int, words: str
) -> None:
    """edge.search_key: missing, of another length, or readable for others."""
    key = tmp_path / "search.key"
    if length is not None:
        key.write_bytes(bytes(length))
        key.chmod(mode)
    found = [line for line in said(tmp_path, search_key=str(key)).splitlines() if "search_key" in line]
    assert bool(found) == bool(words)
    assert all(words in line for line in found)


def test_files_of_console_and_notify_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """Missing, and no text; the other commands need none of them."""
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    content = layout.configuration(layout.choose_ports(well_known=False), {})
    content["console"] = {"tls": {"certificate": "gone.pem", "key": "gone.key"}}
    content["notify"] = {
        "webhook": {"url": "http://localhost/", "authorization_file": str(tmp_path / "token")},
        "mail": {
            "host": "mail",
            "sender": "edge@hospital",
            "recipients": ["it@hospital"],
            "username": "edge",
            "password_file": str(tmp_path / "gone"),
        },
    }
    words = "\n".join(warnings(config.load(layout.write(tmp_path / "lab", content)), {}))
    for part in (
        "gone.pem: No such file or directory; `mini-pacs console` cannot start",
        f"notify.webhook.authorization_file {tmp_path / 'token'}: it is no UTF-8 text",
        f"notify.mail.password_file {tmp_path / 'gone'}: No such file or directory",
    ):
        assert part in words
