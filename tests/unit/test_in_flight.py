"""The messages that a process runs, also one that it runs twice."""

import json
from collections.abc import Collection
from datetime import UTC, datetime
from uuid import UUID

from actors.queue.in_flight import InFlightMessage, InFlightMessages
from gateway.database.tables.messages import Claimed, Run


def message(number: int, *, consumer: int) -> InFlightMessage:
    """As claimed by `consumer`; the same number has the same id."""
    message_id = str(UUID(int=number))
    encoded = {
        "queue_name": "q",
        "actor_name": "noop",
        "args": [],
        "kwargs": {},
        "options": {},
        "message_id": message_id,
        "message_timestamp": 0,
    }
    now = datetime.now(UTC)
    claimed = Claimed(message_id, json.dumps(encoded), 0, 0, 4, now, now)
    return InFlightMessage(claimed, queue_name="q", consumer=consumer)


def test_a_message_that_runs_twice_is_removed_twice() -> None:
    """Once for each thread, so that both slots become free; never more often."""
    held = InFlightMessages()
    first, second = message(1, consumer=1), message(1, consumer=2)
    held.add(first)
    held.add(second)
    assert [held.remove(first), held.remove(second)] == [True, True]
    assert [held.remove(first), held.remove(second)] == [False, False]


def test_a_new_consumer_id_replaces_the_lost_one() -> None:
    """Messages claimed later, and removed ones, keep their id."""
    held = InFlightMessages()
    adopted, freed, newer = message(1, consumer=1), message(2, consumer=1), message(3, consumer=2)
    for one in (adopted, freed, newer):
        held.add(one)
    asked: list[Run] = []

    def adopt(runs: Collection[Run]) -> frozenset[Run]:
        asked.extend(runs)
        return frozenset({adopted.run})

    held.rename(adopt, {1}, 3)
    assert sorted(asked) == sorted([adopted.run, freed.run])
    assert [one.consumer for one in (adopted, freed, newer)] == [3, 1, 2]
