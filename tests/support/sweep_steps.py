"""Helpers of the sweep's tests: a sweep without grace periods, and a check of what a verb does."""

from collections.abc import Callable

from gateway.sweep.context import Counts, SweepContext
from support.forwarding import Forwarding
from support.synthetic_instances import Instance

PROMPT = {"orphan_grace_seconds": 0.01, "reconcile_grace_seconds": 0.01}
"""A sweep without grace periods."""

TABLES = (
    "instances",
    "deliveries",
    "attempts",
    "expected_results",
    "dramatiq.queue",
    "destinations",
    "sweeps",
)


def state_of(core: Forwarding) -> object:
    """Return every row and every file."""
    rows = [core.edge.rows(f"SELECT t::text FROM {table} t ORDER BY 1") for table in TABLES]  # noqa: S608
    return rows, sorted(map(str, core.edge.configuration.edge.data_root.rglob("*")))


def found(counts: Counts) -> Counts:
    """Return the counts that are not zero."""
    return {name: count for name, count in counts.items() if count}


def prove(core: Forwarding, verb: Callable[[SweepContext], Counts], expected: Counts) -> None:
    """Check a verb: a dry run only counts, a run acts with the same counts, a second run finds nothing."""
    before = state_of(core)
    dry = found(verb(core.sweeping(dry=True)))
    assert dry == expected, dry
    after = state_of(core)
    assert after == before, (before, after)
    done = found(verb(core.sweeping()))
    assert done == expected, done
    again = found(verb(core.sweeping()))
    assert again == {}, again


def claim(core: Forwarding, instance: Instance, *, lease: str) -> None:
    """Put the delivery in flight, claimed by a consumer of this process."""
    core.edge.run("DELETE FROM dramatiq.queue")
    core.edge.run(
        "UPDATE deliveries SET state = 'in_flight', claim_id = gen_random_uuid(), claimed_by = %(consumer)s,"
        " lease_until = now() + %(lease)s::interval FROM instances i"
        " WHERE i.id = instance_id AND i.sop_instance_uid = %(uid)s AND route = 'pacs'",
        consumer=core.context.consumer(),
        lease=lease,
        uid=instance.sop_instance_uid,
    )


def blocked(core: Forwarding) -> bool:
    """Tell whether a session waits for a lock."""
    return bool(core.edge.one("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
