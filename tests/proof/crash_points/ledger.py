"""After a crash and a restart: every acknowledged instance against rows, queue, files and the peers' journal.

The result of a series that a worker got whole is owed by its unit, that of another instance by its delivery.
`settled` tells when to look: nothing is in flight, and the sweep has nothing to do. `deviations` returns
what is wrong then, one sentence each; there must be none.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from support.synthetic_instances import Instance

from gateway.domain.contract import EXPIRE_RESULT, EXPIRE_UNIT
from gateway.spool.partial import PARTIAL
from gateway.spool.places import DAMAGED, ORPHANED
from proof.crash_points.environment import Run

_UNSETTLED = "SELECT count(*) FROM deliveries WHERE state IN ('collecting', 'pending', 'in_flight')"
_MESSAGES = """
SELECT count(*) FROM dramatiq.queue
WHERE NOT (message ->> 'actor_name' IN (%s, %s) AND state = 'queued' AND due > now())
"""
_MISPLACED = "SELECT count(*) FROM instances WHERE place <> place_of(id)"
"""What the sweep still corrects: a process died after it settled a unit."""
_ROWS = """
SELECT i.sop_instance_uid, encode(i.sha256, 'hex'), i.data_set_size, i.place::text, i.study_instance_uid,
    i.file_name, i.kind::text,
    (SELECT array_agg(d.route::text || ' ' || d.state::text ORDER BY d.route) FROM deliveries d
     WHERE d.instance_id = i.id)
FROM instances i
"""
_Key = tuple[str, str]
"""SOP Instance UID and digest of the data set."""
Taken = Counter[tuple[str, str, str]]
"""How often a route's peers accepted a data set: route, SOP Instance UID, digest."""
_MOST_TIMES = 3
"""How often a peer may get one instance: after a refusal, after a crash before the settle, and once more."""


def settled(run: Run) -> bool:
    """Tell whether nothing is in flight any more, in the rows, in the queue and in the spool."""
    return not run.senders.batches and has_settled_rows(run) and not run.one(_MISPLACED) and not _strays(run)


def has_settled_rows(run: Run) -> bool:
    """Tell whether no delivery and no message is to be done; the file system may have stopped."""
    return not run.one(_UNSETTLED) and not run.one(
        _MESSAGES, EXPIRE_RESULT.actor_name, EXPIRE_UNIT.actor_name
    )


def is_purged(run: Run, uids: frozenset[str]) -> bool:
    """Tell whether no instance with one of these SOP Instance UIDs is left."""
    return not any(uid in uids for uid, *_ in run.rows(_ROWS))


def _strays(run: Run) -> list[str]:
    """Return the files that are not where a row says, and partial files."""
    known = {f"{place}/{study}/{name}" for _, _, _, place, study, name, *_ in run.rows(_ROWS)}
    found = {str(path.relative_to(run.root)) for path in run.files()}
    found = {name for name in found if not name.startswith((f"{ORPHANED}/", f"{DAMAGED}/", f"{PARTIAL}/"))}
    parts = {str(path.relative_to(run.root)) for path in run.files(".part")}
    return sorted((found ^ known) | parts)


def deviations(run: Run, *, purged: frozenset[str] = frozenset()) -> list[str]:
    """Return the deviations; of the SOP Instance UIDs in `purged` nothing may be left."""
    found = [f"not in its place: {name}" for name in _strays(run)]
    rows: dict[_Key, Sequence[Any]] = {(uid, digest): more for uid, digest, *more in run.rows(_ROWS)}
    taken = _taken(run)
    owed: Counter[str] = Counter(acknowledged=0)
    expected = {(one.sop_instance_uid, one.digest): one for one in run.senders.acknowledged}
    for key, instance in expected.items():
        if instance.sop_instance_uid in purged:
            found += [f"{key[0]} is past its retention and still there"] * (key in rows)
        elif key not in rows:
            found.append(f"{key[0]} was acknowledged and is gone")
        else:
            found += _of_file(run, instance, rows[key])
            found += _of_deliveries(key, rows[key], taken, owed)
    found += [f"{uid} has a row and was never acknowledged" for uid, _ in rows.keys() - expected.keys()]
    found += [
        f"{uid} came to {route} with bytes that nobody sent"
        for route, uid, digest in taken
        if (uid, digest) not in expected
    ]
    if owed["acknowledged"] != owed["delivered"]:
        found.append(f"the ledger does not close: {dict(owed)}")
    return found + _expectations(run) + _units(run)


def _of_file(run: Run, instance: Instance, row: Sequence[Any]) -> list[str]:
    size, place, study, name, *_ = row
    data_set = instance.data_set()
    path = run.root / place / study / name
    kept = path.read_bytes()[-len(data_set) :] if path.exists() else b""
    return [] if kept == data_set and size == len(data_set) else [f"{path}: not the bytes that were sent"]


def _of_deliveries(key: _Key, row: Sequence[Any], taken: Taken, owed: Counter[str]) -> list[str]:
    """Compare the deliveries of an instance with the peers; add each with its state to `owed`."""
    *_, kind, deliveries = row
    states = dict(delivery.split() for delivery in deliveries or ())
    found = []
    for route in ("pacs",) if kind == "result" else ("pacs", "workers"):
        state = states.get(route, "not owed")
        owed.update(("acknowledged", state))
        times = taken[route, *key]
        if state != "delivered":
            found.append(f"{key[0]} to {route}: {state}")
        elif not 1 <= times <= _MOST_TIMES:
            found.append(f"{key[0]} to {route}: delivered, and taken {times} times")
    return found


def _expectations(run: Run) -> list[str]:
    """Check that a worker's result is expected, has arrived, or was given up with a reason."""
    silent = run.rows(
        "SELECT i.sop_instance_uid FROM deliveries d JOIN instances i ON i.id = d.instance_id"
        " WHERE d.route = 'workers' AND d.state = 'delivered' AND d.unit_id IS NULL"
        " AND NOT EXISTS (SELECT FROM expected_results e WHERE e.delivery_id = d.id)"
    )
    twice = run.rows(
        "SELECT delivery_id FROM expected_results WHERE state = 'owed' GROUP BY 1 HAVING count(*) > 1"
    )
    unwatched = run.rows(
        "SELECT e.id FROM expected_results e WHERE e.state = 'owed' AND NOT EXISTS ("
        " SELECT FROM dramatiq.queue q"
        " WHERE q.message ->> 'actor_name' = %s AND (q.message -> 'args' ->> 0)::bigint = e.id)",
        EXPIRE_RESULT.actor_name,
    )
    return [
        *(f"{uid} was delivered to a worker that owes nothing for it" for (uid,) in silent),
        *(f"delivery {number} has two results owed at once" for (number,) in twice),
        *(f"expectation {number} has no message at its deadline" for (number,) in unwatched),
    ]


def _units(run: Run) -> list[str]:
    """Check that each unit was sent whole, and that a result that is owed has a message at its deadline."""
    unsent = run.rows(
        "SELECT id, state::text FROM units WHERE state IN ('collecting', 'complete', 'sending')"
    )
    unwatched = run.rows(
        "SELECT u.id FROM units u WHERE u.state = 'sent' AND NOT EXISTS ("
        " SELECT FROM dramatiq.queue q"
        " WHERE q.message ->> 'actor_name' = %s AND (q.message -> 'args' ->> 0)::bigint = u.id)",
        EXPIRE_UNIT.actor_name,
    )
    open_dispatches = run.rows("SELECT unit_id FROM unit_dispatches WHERE outcome IS NULL")
    return [
        *(f"unit {number} is {state}" for number, state in unsent),
        *(f"unit {number} owes a result and has no message at its deadline" for (number,) in unwatched),
        *(f"a sending of unit {number} has no outcome" for (number,) in open_dispatches),
    ]


def _taken(run: Run) -> Taken:
    """Return how often the peers of each route received each complete data set and answered Success."""
    counted: Taken = Counter()
    if run.journal.exists():
        pacs = str(run.configuration.forwarder.orthanc.port)
        for line in run.journal.read_text(encoding="ascii").splitlines():
            port, uid, digest, status = line.split()
            if status == "0":
                counted["pacs" if port == pacs else "workers", uid, digest] += 1
    return counted
