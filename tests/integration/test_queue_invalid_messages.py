"""Rows that hold no valid Dramatiq message: each is dead with its reason, and blocks no thread."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.queue_setup import QUEUE, QueueSetup
from support.waiting import wait_until
from typer.testing import CliRunner

from actors.queue.document import NoMessageError, decode
from cli.queue import app
from gateway.database.tables.messages import Claimed
from gateway.database.tables.overview import overview
from gateway.diagnosis.findings import findings

GOOD: dict[str, Any] = {
    "queue_name": QUEUE,
    "actor_name": "note",
    "args": [1],
    "kwargs": {},
    "options": {},
    "message_id": str(uuid4()),
    "message_timestamp": 1_700_000_000_000,
}
INSERT = """
INSERT INTO dramatiq.queue (message_id, queue_name, message)
SELECT gen_random_uuid(), 'q', %(document)s::jsonb FROM generate_series(1, %(count)s)
RETURNING message_id::text
"""
DEEP = "[" * 3000 + "]" * 3000


def without(*names: str) -> str:
    """Return the good message without these fields."""
    return json.dumps({name: value for name, value in GOOD.items() if name not in names})


def changed(**values: object) -> str:
    """Return the good message with other values."""
    return json.dumps(GOOD | values)


BAD = {
    "null": "null",
    "a string": '"noop"',
    "a list": "[]",
    "a number": "1",
    "an empty object": "{}",
    "an unknown field": changed(colour="red"),
    "no actor": without("actor_name"),
    "no options": without("options"),
    "no kwargs": without("kwargs"),
    "options null": changed(options=None),
    "options a string": changed(options="eta"),
    "options a list": changed(options=["eta"]),
    "eta a string": changed(options={"eta": "tomorrow"}),
    "eta null": changed(options={"eta": None}),
    "eta a boolean": changed(options={"eta": True}),
    "eta of an age": changed(options={"eta": 10**30}),
    "eta of a number too long": changed(options={"eta": 1}).replace('"eta": 1', f'"eta": 1{"0" * 5000}'),
    "time limit a string": changed(options={"time_limit": "1 h"}),
    "time limit a list": changed(options={"time_limit": [1]}),
    "throws a name": changed(options={"throws": "ValueError"}, actor_name="fail"),
    "actor a list": changed(actor_name=["note"]),
    "actor an object": changed(actor_name={"note": 1}),
    "actor null": changed(actor_name=None),
    "args a string": changed(args="abc"),
    "args an object": changed(args={"number": 1}),
    "args null": changed(args=None),
    "args a number": changed(args=1),
    "args with a number too long": changed(args=[]).replace('"args": []', f'"args": [1{"0" * 5000}]'),
    "args too deep": changed(args=[]).replace('"args": []', f'"args": {DEEP}'),
    "kwargs a list": changed(kwargs=[]),
    "timestamp a string": changed(message_timestamp="now"),
}


def test_invalid_messages_are_dead_and_valid_ones_run(queue: QueueSetup) -> None:
    """Eight of each kind, more than there are threads, before valid messages."""
    for document in BAD.values():
        queue.rows(INSERT, document=document, count=8)
    process = queue.start(threads=4)
    for number in range(20):
        queue.send("note", number)
    wait_until(lambda: queue.count("state <> 'rejected'") == 0, 60, "the queue to be worked off")
    assert sorted(queue.ran()) == list(range(20))
    assert queue.count("state = 'rejected' AND reason <> ''") == 8 * len(BAD)
    assert queue.count("consumer IS NOT NULL") == 0
    text = process.text()
    assert "Restarting consumer" not in text
    assert "unexpected error" not in text
    shown = json.loads(CliRunner().invoke(app, ["dead", "--json", "--limit", "1000"]).stdout)["items"]
    assert len(shown) == 8 * len(BAD)
    assert CliRunner().invoke(app, ["dead"]).exit_code == 0
    with queue.database.statement() as session:
        [dead] = [one.text for one in findings(overview(session), None) if "messages are dead" in one.text]
    assert dead.startswith(f"{8 * len(BAD)} messages are dead, the last: ")


def test_a_row_that_the_client_cannot_read_is_dead_or_runs(queue: QueueSetup) -> None:
    """A due time before Christ, or an infinite one, and a document that is too large for memory."""
    queue.rows(INSERT, document=changed(args=["x" * (16 << 20)]), count=1)
    queue.run("ALTER TABLE dramatiq.queue ALTER COLUMN message SET STORAGE EXTERNAL")
    queue.run(
        "UPDATE dramatiq.queue SET message = jsonb_set(message, '{args}', (SELECT jsonb_agg(md5(i::text)) "
        "FROM generate_series(1, 200000) AS i))"
    )
    for number, due in ((1, "-infinity"), (2, "4000-01-01 BC")):
        queue.send("note", number)
        queue.run(f"UPDATE dramatiq.queue SET due = '{due}' WHERE message -> 'args' = '[{number}]'")  # noqa: S608
    queue.start(threads=2)
    wait_until(lambda: sorted(queue.ran()) == [1, 2], 15, "the old ones to run")
    wait_until(lambda: queue.count() == 1, 5, "their acks")
    assert (
        queue.one("SELECT reason FROM dramatiq.queue WHERE state = 'rejected'")
        == "its message is larger than 4 MiB"
    )


def test_an_eta_in_a_row_is_a_due_time(queue: QueueSetup) -> None:
    """Other programs may write it: a future eta postpones the message without a thread, a past one runs."""
    queue.rows(INSERT, document=changed(args=[1], options={"eta": 1_700_000_000_000}), count=1)
    queue.rows(INSERT, document=changed(args=[2], options={"eta": 32_503_680_000_000}), count=8)
    queue.start(threads=2)
    queue.send("note", 3)
    wait_until(lambda: sorted(queue.ran()) == [1, 3], 10, "the two that are due")
    year_3000 = "state = 'queued' AND failures = 0 AND due BETWEEN '2999-12-31' AND '3000-01-02'"
    wait_until(lambda: queue.count(year_3000) == 8 and queue.count() == 8, 5, "the others to be put off")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
OPTIONS = st.dictionaries(st.sampled_from(["eta", "time_limit", "max_age", "throws", "x"]), JSON)


@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    changes=st.fixed_dictionaries({}, optional=dict.fromkeys(GOOD, JSON | OPTIONS)),
    removed=st.sets(st.sampled_from(sorted(GOOD))),
)
def test_decoding_gives_a_reason_or_a_usable_message(changes: dict[str, Any], removed: set[str]) -> None:
    """For every possible document: the result is a reason, or a message that Dramatiq's worker can run."""
    document = {name: value for name, value in (GOOD | changes).items() if name not in removed}
    now = datetime.now(UTC)
    claimed = Claimed(GOOD["message_id"], json.dumps(document), 0, 0, 4, now, now)
    try:
        message, not_before = decode(claimed, QUEUE)
    except NoMessageError as error:
        assert str(error)  # noqa: PT017
        return
    assert {message.actor_name: 1}
    assert "eta" not in message.options
    assert not message.options.get("throws")
    assert isinstance(message.args, tuple)
    assert not_before is None or abs(not_before) < 10**12
    limit = message.options.get("time_limit") or 1
    assert limit / 1000 >= 0
    assert dict(**message.kwargs) is not None
