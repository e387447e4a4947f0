"""A diagnosis has one deadline: a check that hangs for ever is a finding, and nothing waits for it."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.config import Configuration
from gateway.diagnosis import examine as examination
from gateway.diagnosis import gather, own_port, peer, postgres, spool
from gateway.diagnosis.examine import GOOD, examine

pytestmark = pytest.mark.guarantee("G2")
SECONDS = 1.0
DSN = "postgresql://edge@127.0.0.1:1/edge"


@pytest.fixture
def hang() -> Iterator[Callable[..., Any]]:
    """Yield a function that does not return before the test ends."""
    ended = threading.Event()

    def wait(*_: Any, **__: Any) -> Any:
        ended.wait(60)
        raise OSError("the test is over")

    yield wait
    ended.set()


def test_nothing_waits_for_checks_that_hang(
    configuration: Configuration, hang: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every peer, PostgreSQL, the spool, the disks and the own port hang: each is a finding."""
    monkeypatch.setattr(peer, "ask", hang)
    monkeypatch.setattr(own_port, "ask", hang)
    monkeypatch.setattr(postgres, "look", hang)
    monkeypatch.setattr(spool, "measure", hang)
    monkeypatch.setattr(examination, "configuration", hang)
    monkeypatch.setattr(examination, "certificates_of", hang)
    seen = examine(configuration, DSN, seconds=SECONDS)
    titles = {f"peer:{one.ae_title}" for one in configuration.destinations}
    assert len(titles) > 1
    assert {one.key for one in seen.findings} == {
        "configuration.not_examined",
        "certificates.not_examined",
        "port.not_examined",
        "spool.not_examined",
        "postgres.away",
        *titles,
    }
    assert all(one.problem and one.means and one.remedy for one in seen.findings)
    assert [check for check in seen.checks if check.mark == GOOD] == []
    assert seen.gathered.view is None


def test_rows_that_are_not_read_in_time_are_a_finding(
    configuration: Configuration, hang: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL answers about itself, and the tables of the edge cannot be read."""
    server = object()
    monkeypatch.setattr(postgres, "look", lambda *_, **__: postgres.ServerSeen("here", server))  # type: ignore[arg-type]
    monkeypatch.setattr(gather, "_read_rows", hang)
    gathered = gather.Gathered(configuration)
    gather.read_database(gathered, DSN, seconds=SECONDS)
    assert [one.key for one in gathered.findings] == ["postgres.slow"]
    assert gathered.error is not None
