"""Two configurations compared in words; the text of the history; what waits for a restart."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.launcher import REPOSITORY

from gateway import config
from gateway.config import Configuration
from gateway.errors import ConfigurationError
from gateway.processes.difference import difference
from gateway.processes.document import SECRET, document_of, read_document, with_values_of_start
from gateway.processes.handover import Handover
from gateway.processes.keys import is_secret

SOURCE = Path("/etc/edge/config.yaml")
CONTENT = yaml.safe_load((REPOSITORY / "config.yaml").read_text(encoding="utf-8"))


def changed(**sections: dict[str, Any]) -> Configuration:
    """Return the configuration of the project with other values in some sections."""
    return config.of_content(
        {name: {**values, **sections.get(name, {})} for name, values in CONTENT.items()}, SOURCE
    )


BEFORE = changed()
WORKERS = CONTENT["forwarder"]["workers"]
CALLERS = CONTENT["edge"]["allowed_calling_aets"]


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({}, []),
        ({"edge": {"port": 11113}}, ["edge.port: 11112 → 11113"]),
        ({"edge": {"artim_timeout_seconds": 12.5}}, ["edge.artim_timeout_seconds: 30 → 12.5"]),
        (
            {"edge": {"allowed_calling_aets": [*CALLERS[::-1], "CT1@10.0.0.1"]}},
            [
                "edge.allowed_calling_aets: CT1@10.0.0.1 added",
                "edge.allowed_calling_aets: in another order",
            ],
        ),
        (
            {"edge": {"tls": {"certificate": "a.pem", "key": "a.key", "client_certificate": "none"}}},
            ["edge.tls added"],
        ),
        ({"edge": {"urgent": {"modalities": ["CR"]}}}, ["edge.urgent.modalities: CR added"]),
        ({"sweep": {"retention_hours": 48}}, ["sweep.retention_hours: 24 → 48"]),
        (
            {"forwarder": {"workers": [{**WORKERS[0], "port": 1}, *WORKERS[2:]]}},
            ["forwarder.workers: APP02 removed", "forwarder.workers[APP01].port: 11201 → 1"],
        ),
        (
            {"forwarder": {"orthanc": {"host": "pacs", "port": 104, "ae_title": "ORTHANC"}}},
            ["forwarder.orthanc.host: orthanc → pacs", "forwarder.orthanc.port: 4242 → 104"],
        ),
        # a default that is written out
        ({"forwarder": {"breaker_failures": 3}, "edge": {"accepted_sop_classes": []}}, []),
    ],
)
def test_each_difference_is_one_sentence(sections: dict[str, Any], said: list[str]) -> None:
    """Peers are told by AE title; a default that is written out is none."""
    assert [change.text for change in difference(BEFORE, changed(**sections))] == said


def test_a_change_says_whether_it_needs_a_restart() -> None:
    """And of what."""
    new = changed(edge={"port": 1, "log_path": "x.log", "idle_timeout_seconds": 1})
    assert {change.key: change.restart for change in difference(BEFORE, new)} == {
        "edge.port": "`mini-pacs serve`",
        "edge.log_path": "every process",
        "edge.idle_timeout_seconds": None,
    }


def test_what_waits_for_a_restart_keeps_its_value() -> None:
    """All other values are those of the new file; a key that is not written keeps its default."""
    running = changed(edge={"port": 104})
    new = changed(edge={"port": 4711, "stop_grace_seconds": 5, "idle_timeout_seconds": 1})
    merged = with_values_of_start(new, running)
    assert (merged.edge.port, merged.edge.stop_grace_seconds) == (104, 30)
    assert merged.edge.idle_timeout_seconds == 1
    assert new.edge.port == 4711


def test_values_that_do_not_fit_together_are_refused() -> None:
    """A worker gets the AE title that the edge still has."""
    new = changed(
        edge={"ae_title": "NEW", "allowed_calling_aets": [*CALLERS, "MINI_EDGE"]},
        forwarder={"workers": [{**WORKERS[0], "ae_title": "MINI_EDGE"}]},
    )
    with pytest.raises(ConfigurationError, match="MINI_EDGE"):
        with_values_of_start(new, BEFORE)


def test_the_digest_is_that_of_the_values(tmp_path: Path) -> None:
    """Comments, layout and the order of keys do not count; a value does."""
    source = tmp_path / "config.yaml"
    digests = set()
    for text in (
        yaml.safe_dump(CONTENT),
        "# a comment\n" + yaml.safe_dump(dict(reversed(CONTENT.items())), sort_keys=False, indent=8),
    ):
        source.write_text(text)
        digests.add(config.load(source).digest)
    assert len(digests) == 1
    assert changed(edge={"port": 1}).digest not in digests


def test_the_document_of_the_history_is_the_file() -> None:
    """Read again it gives the same configuration, with the same digest."""
    again = read_document(document_of(BEFORE), SOURCE)
    assert again == BEFORE
    assert again.digest == BEFORE.digest


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("password", True),
        ("smtp_password", True),
        ("webhook_url", True),
        ("api_token", True),
        ("key", False),
        ("certificate", False),
        ("host", False),
    ],
)
def test_secrets_are_told_by_the_name_of_the_key(name: str, secret: bool) -> None:  # noqa: FBT001  a parameter
    """Paths of keys and certificates are none."""
    assert is_secret(name) is secret


def test_the_document_has_no_secrets() -> None:
    """Wherever they stand."""
    configuration = changed()
    configuration._content = {**CONTENT, "notify": [{"password": "hunter2", "to": "a@b"}]}
    assert yaml.safe_load(document_of(configuration))["notify"] == [{"password": SECRET, "to": "a@b"}]


def test_a_receiver_reads_what_another_one_took() -> None:
    """Before the first, and where a process died while it wrote, it uses the configuration of the start."""
    handover = Handover()
    assert handover.read(BEFORE) is BEFORE
    new = changed(edge={"idle_timeout_seconds": 1})
    handover.write(new)
    assert handover.read(BEFORE) == new
    handover.write(BEFORE)
    assert handover.read(new) == BEFORE
    handover._file.truncate(100)
    assert handover.read(new) is new
    handover._file.close()
