"""Group commit: no instance waits for others, and none harms another."""

import threading

import pytest
from support.waiting import wait_until

from gateway.database.tables.instances import ReceivedInstance, ReceptionVerdict, RegisteredInstance
from gateway.domain.instance import Kind, Place
from gateway.domain.routing import Route
from gateway.errors import DatabaseRefusedError, OutcomeUnknownError, SpoolError
from gateway.receive.group_commit import Flush, GroupCommit


def _received(number: int) -> ReceivedInstance:
    return ReceivedInstance(
        f"1.2.{number}",
        "1.2",
        "1.3",
        "1.4",
        "1.5",
        b"\0" * 32,
        1,
        "A",
        "B",
        "127.0.0.1",
        Kind.ORIGINAL,
        "f.dcm",
        (Route.PACS,),
        4,
    )


def _kept(received: ReceivedInstance) -> RegisteredInstance:
    return RegisteredInstance(
        int(received.sop_instance_uid[4:]),
        ReceptionVerdict.STORED,
        received.file_name,
        Place.INCOMING,
        received.kind,
    )


class _Gate:
    """A commit that records its batches, and whose first one waits until it is let through."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, batch: list[ReceivedInstance], flush: Flush | None) -> list[RegisteredInstance]:
        if flush is not None:
            flush()
        self.batches.append([received.sop_instance_uid for received in batch])
        if not self.entered.is_set():
            self.entered.set()
            assert self.open.wait(30)
        return [_kept(received) for received in batch]


def test_a_single_instance_commits_at_once() -> None:
    """It is a batch of one."""
    batches = []

    def commit_batch(batch: list[ReceivedInstance], _flush: Flush | None) -> list[RegisteredInstance]:
        batches.append(len(batch))
        return [_kept(received) for received in batch]

    group = GroupCommit(commit_batch)
    assert [group.commit(_received(n)).instance_id for n in (7, 8)] == [7, 8]
    assert batches == [1, 1]


def test_waiting_instances_commit_together_in_the_order_of_their_uids() -> None:
    """Instances that arrive during a commit are one batch after it, each with its own answer."""
    gate = _Gate()
    group = GroupCommit(gate)
    answers: dict[int, int] = {}

    def commit(number: int) -> None:
        answers[number] = group.commit(_received(number)).instance_id

    first = threading.Thread(target=commit, args=(1,))
    first.start()
    assert gate.entered.wait(30)
    others = [threading.Thread(target=commit, args=(number,)) for number in (5, 3, 4, 2)]
    for thread in others:
        thread.start()
    wait_until(lambda: len(group._waiting) == 4, 30, "all others wait")
    gate.open.set()
    for thread in (first, *others):
        thread.join(30)
    assert gate.batches == [["1.2.1"], ["1.2.2", "1.2.3", "1.2.4", "1.2.5"]]
    assert answers == {number: number for number in (1, 2, 3, 4, 5)}


def test_a_refused_instance_does_not_fail_its_batch() -> None:
    """The batch is repeated one by one: only that instance gets the error."""
    gate = _Gate()

    def commit_batch(batch: list[ReceivedInstance], _flush: Flush | None) -> list[RegisteredInstance]:
        kept = gate(batch, _flush)
        if any(received.sop_instance_uid == "1.2.3" for received in batch):
            raise DatabaseRefusedError("no", "23514")
        return kept

    group = GroupCommit(commit_batch)
    answers: dict[int, int | str] = {}

    def commit(number: int) -> None:
        try:
            answers[number] = group.commit(_received(number)).instance_id
        except DatabaseRefusedError as error:
            answers[number] = str(error)

    threads = [threading.Thread(target=commit, args=(number,)) for number in (1, 2, 3, 4)]
    threads[0].start()
    assert gate.entered.wait(30)
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: len(group._waiting) == 3, 30, "the others wait")
    gate.open.set()
    for thread in threads:
        thread.join(30)
    assert answers == {1: 1, 2: 2, 3: "no", 4: 4}


def test_an_unknown_outcome_is_unknown_to_each_and_not_repeated() -> None:
    """A batch that may be committed is not committed again; the next one goes on."""
    calls = []

    def commit_batch(batch: list[ReceivedInstance], _flush: Flush | None) -> list[RegisteredInstance]:
        calls.append(len(batch))
        if len(calls) == 1:
            raise OutcomeUnknownError("lost")
        return [_kept(received) for received in batch]

    group = GroupCommit(commit_batch)
    with pytest.raises(OutcomeUnknownError):
        group.commit(_received(1))
    assert calls == [1]
    assert group.commit(_received(2)).instance_id == 2


def test_each_file_is_flushed_once_before_its_row_is_committed() -> None:
    """Waiting files are flushed in parallel, the first one by its commit."""
    gate = _Gate()
    group = GroupCommit(gate)
    flushed: list[int] = []

    def commit(number: int) -> None:
        group.commit(_received(number), lambda: flushed.append(number))

    first = threading.Thread(target=commit, args=(1,))
    first.start()
    assert gate.entered.wait(30)
    assert flushed == [1]
    others = [threading.Thread(target=commit, args=(number,)) for number in (2, 3)]
    for thread in others:
        thread.start()
    wait_until(lambda: len(group._waiting) == 2, 30, "the others wait")
    assert sorted(flushed) == [1, 2, 3]
    gate.open.set()
    for thread in (first, *others):
        thread.join(30)
    assert sorted(flushed) == [1, 2, 3]
    assert gate.batches == [["1.2.1"], ["1.2.2", "1.2.3"]]


def test_a_failed_flush_fails_its_own_instance_only() -> None:
    """First in the batch or waiting: it is not committed, and the next one is."""
    gate = _Gate()
    gate.open.set()
    group = GroupCommit(gate)

    def fail() -> None:
        raise SpoolError("the disk does not take it")

    with pytest.raises(SpoolError):
        group.commit(_received(1), fail)
    assert group.commit(_received(2), lambda: None).instance_id == 2
    assert gate.batches == [["1.2.2"]]
