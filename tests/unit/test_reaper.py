"""How soon the reaper frees the messages of an actor process that is gone, on a clock of the test."""

from collections.abc import Sequence
from unittest.mock import Mock

import pytest

from actors.queue import reaper
from actors.queue.reaper import Reaper
from gateway.database.session import Session
from gateway.database.tables import consumers

PROMISED_SECONDS = 4.0
"""docs/reliability.md: within 4 s, or 1.5 s after the start of the next process."""


class Clock:
    """The time, the processes whose lock is missing, and when their messages were freed."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.missing: list[int] = []
        self.freed: dict[int, float] = {}

    def reap(self, _session: Session, gone: Sequence[int]) -> list[object]:
        """Note when the messages of these processes were freed."""
        for one in gone:
            self.freed[one] = self.now
            self.missing.remove(one)
        return []

    def run(self, reaper: Reaper, seconds: float) -> None:
        """Check whenever a check is due, for that long."""
        until = self.now + seconds
        while self.now + max(reaper.seconds_to_check, 0.0) < until:
            self.now += max(reaper.seconds_to_check, 0.0)
            reaper.check(Mock(Session))
        self.now = until


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a clock that the reaper reads, in place of time and database."""
    clock = Clock()
    monkeypatch.setattr(reaper, "monotonic", lambda: clock.now)
    monkeypatch.setattr(consumers, "without_lock", lambda _session: list(clock.missing))
    monkeypatch.setattr(consumers, "reap", clock.reap)
    return clock


@pytest.mark.parametrize("after_check", [0.0, 0.001, 0.5, 1.0, 1.999])
def test_messages_are_freed_within_the_promised_time(clock: Clock, after_check: float) -> None:
    """Whenever between two checks the process dies."""
    living = Reaper()
    living.begin(Mock(Session))
    clock.run(living, 10.001 + after_check)
    died = clock.now
    clock.missing.append(4711)
    clock.run(living, 10)
    assert reaper.RECONNECT_GRACE_SECONDS <= clock.freed[4711] - died <= PROMISED_SECONDS


def test_a_new_process_frees_the_messages_of_dead_ones_after_the_grace(clock: Clock) -> None:
    """They died before it started: it waits for the grace only."""
    clock.missing += [4711, 4712]
    started = clock.now
    new = Reaper()
    new.begin(Mock(Session))
    clock.run(new, 10)
    assert {at - started for at in clock.freed.values()} == {reaper.RECONNECT_GRACE_SECONDS}
    assert set(clock.freed) == {4711, 4712}


def test_a_process_that_comes_back_within_the_grace_keeps_its_messages(clock: Clock) -> None:
    """Its lock was missing for one check only."""
    living = Reaper()
    living.begin(Mock(Session))
    clock.missing.append(4711)
    clock.run(living, reaper.RECONNECT_GRACE_SECONDS - 0.1)
    clock.missing.clear()
    clock.run(living, 10)
    assert not clock.freed
