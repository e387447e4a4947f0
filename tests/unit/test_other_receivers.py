"""The count of what other receivers have not registered: whose links count, and how long a count is used."""

from pathlib import Path

import pytest

from gateway.register import other_receivers as module
from gateway.register.other_receivers import COUNT_AGAIN_SECONDS, SHARE, OtherReceivers
from gateway.register.unregistered import REFUSED
from gateway.spool.partial import PARTIAL, SUFFIX
from gateway.spool.spool import Spool


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace the clock of the module; the first entry is its time."""
    times = [1000.0]
    monkeypatch.setattr(module, "monotonic", lambda: times[0])
    return times


def write_links(spool: Spool, receiver: str, count: int) -> None:
    """Write that many links, and a file that is none, into the folder of a receiver."""
    folder = spool.root / PARTIAL / receiver
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"{number:08x}{SUFFIX}").touch()
    (folder / "lock").touch()


def test_links_of_others_are_counted_and_used_for_some_seconds(tmp_path: Path, clock: list[float]) -> None:
    """Own links and refused ones do not count. Later the links are counted again."""
    spool = Spool(tmp_path)
    spool.prepare()
    spool.open_receiver()
    others = OtherReceivers(spool)
    assert others.unregistered() == 0
    write_links(spool, "other-1", 3)
    write_links(spool, "other-2", 2)
    write_links(spool, REFUSED, 7)
    write_links(spool, spool.receiver.name, 11)
    clock[0] += COUNT_AGAIN_SECONDS - 0.1
    assert others.unregistered() == 0
    clock[0] += 0.1
    assert others.unregistered() == 5
    spool.close_receiver()


def test_a_slow_count_is_used_for_longer(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counting takes at most its share of the time."""
    spool = Spool(tmp_path)
    spool.prepare()
    spool.open_receiver()
    others = OtherReceivers(spool)
    counted = []

    def count_slowly() -> int:
        clock[0] += 4.0
        counted.append(clock[0])
        return 9

    monkeypatch.setattr(others, "_links", count_slowly)
    assert others.unregistered() == 9
    clock[0] += 4.0 / SHARE - 0.1
    assert others.unregistered() == 9
    assert len(counted) == 1
    clock[0] += 0.1
    assert others.unregistered() == 9
    assert len(counted) == 2
    spool.close_receiver()
