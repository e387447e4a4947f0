"""The table of open associations that the receivers of one port share."""

import os
from collections.abc import Callable, Iterator

import pytest

from gateway.receive.limits import AssociationLimits

Table = Callable[..., AssociationLimits]


@pytest.fixture
def table() -> Iterator[Table]:
    """Yield the table; its file is removed after the test."""
    made: list[AssociationLimits] = []

    def make(**bounds: int) -> AssociationLimits:
        made.append(AssociationLimits(**bounds))
        return made[-1]

    yield make
    for limits in made:
        limits._file.close()


def in_a_child(work: Callable[[], int]) -> tuple[int, int]:
    """Run `work` in a forked process that dies at once after it: its id and what it returned (0 to 255)."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            code = work()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return child, os.waitstatus_to_exitcode(status)


def test_total_and_per_peer_are_bounded(table: Table) -> None:
    """One peer leaves capacity for others; released capacity is free again."""
    limits = table(total=3, per_peer=2)
    slots = [limits.acquire("a"), limits.acquire("a")]
    assert None not in slots
    assert limits.acquire("a") is None
    assert limits.acquire("b") is not None
    assert limits.acquire("c") is None
    assert slots[0] is not None
    limits.release(slots[0])
    assert limits.acquire("c") is not None
    assert limits.in_use() == 3


def test_limits_change_while_associations_are_open(table: Table) -> None:
    """Those that are open stay, also beyond a smaller limit; their slots are free again when they end."""
    limits = table(total=2, per_peer=2)
    slots = [limits.acquire("a"), limits.acquire("a")]
    limits.change(total=3, per_peer=3)
    assert limits.acquire("a") == 2
    assert limits.acquire("b") is None
    limits.change(total=1, per_peer=3)
    assert limits.acquire("b") is None
    assert slots == [0, 1]
    limits.release(0)
    assert limits.acquire("b") == 0
    assert limits.in_use() == 3
    assert limits.release_all(os.getpid()) == 3


def test_processes_share_one_table_and_the_dead_are_forgotten(table: Table) -> None:
    """G6: the capacity of a killed receiver is free as soon as its parent reports its end."""
    limits = table(total=4, per_peer=4)

    def take_all_but_one() -> int:
        return sum(limits.acquire("a") is not None for _ in range(3))

    child, taken = in_a_child(take_all_but_one)
    assert taken == 3
    assert limits.in_use() == 3
    assert limits.acquire("a") is not None
    assert limits.acquire("a") is None
    assert limits.release_all(child) == 3
    assert limits.in_use() == 1


def test_concurrent_processes_never_exceed_the_limit(table: Table) -> None:
    """Eight processes use the same table."""
    limits = table(total=20, per_peer=20)
    read, write = os.pipe()
    children = []
    for _ in range(8):
        child = os.fork()
        if child == 0:
            os.close(write)
            os.read(read, 1)  # until all are there
            os._exit(sum(limits.acquire("a") is not None for _ in range(10)))
        children.append(child)
    os.close(write)
    os.close(read)
    assert sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children) == 20


def test_the_holders_of_a_limit_are_named(table: Table) -> None:
    """An operator sees who has the associations open; which of the two limits is reached is told apart."""
    limits = table(total=3, per_peer=2)
    slots = [limits.acquire("CT1@10.0.0.1"), limits.acquire("CT1@10.0.0.1"), limits.acquire("X" * 200)]
    assert limits.holders() == [("CT1@10.0.0.1", 2), ("X" * 64, 1)]
    assert limits.is_reached_by("CT1@10.0.0.1")
    assert not limits.is_reached_by("MR1@10.0.0.2")
    assert slots[0] is not None
    limits.release(slots[0])
    assert limits.holders() == [("CT1@10.0.0.1", 1), ("X" * 64, 1)]
