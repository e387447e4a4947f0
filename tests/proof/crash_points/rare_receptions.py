"""Rare receptions: concurrent senders, a taken file name, large data, a repeat after an hour.

Each of the four runs code that the usual receptions do not, with other crash points: a commit for several
instances, a second link, several writes, a file that replaces a lost one.
"""

from dataclasses import replace

from support.synthetic_instances import Instance
from support.waiting import wait_until

from proof.crash_points.environment import Run, Senders

AT_ONCE = 3
"""The first is being registered; meanwhile the others gather to a batch."""
LARGE_BYTES = 300_000
"""More than one PDU holds."""
MEET_SECONDS = 20.0

_LOCK = "SELECT pg_advisory_lock(hashtextextended(%s, 1))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended(%s, 1))"
_BLOCKED = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


def known() -> list[Instance]:
    """Return instances that were delivered long ago.

    One stays, the file of another is lost, a third gets a second version.
    """
    return [Instance(series_description=word) for word in ("stands", "is lost", "has a rival")]


def senders(received: list[Instance]) -> Senders:
    """Return the concurrent senders, then the others.

    `received` is the return value of `known`; these instances are acknowledged already.
    """
    stands, lost, rivalled = received
    at_once = [("ORTHANC", [Instance()]) for _ in range(AT_ONCE)]
    rival = replace(rivalled, payload=b"\x07\x08" * 512)
    large = Instance(payload=bytes(LARGE_BYTES))
    return Senders([*at_once, ("ORTHANC", [rival, large]), ("ORTHANC", [stands, lost])], list(received))


def forget(run: Run, received: list[Instance]) -> None:
    """Set all deliveries to an hour ago.

    The file of the second instance is deleted, as by a purge that died after its unlink.
    """
    run.run("UPDATE deliveries SET settled_at = now() - interval '1 hour'")
    run.run("UPDATE expected_results SET state = 'arrived', arrived_at = now(), message_id = NULL")
    run.run("DELETE FROM dramatiq.queue")
    [path] = [path for path in run.files() if path.stem == received[1].sop_instance_uid]
    path.unlink()


def send(run: Run) -> bool:
    """Send everything; return whether all of it was acknowledged (False if a sender was cut off)."""
    batches = run.senders.batches
    if len(batches) < AT_ONCE or not send_at_once(run):
        return False
    return run.send()


def send_at_once(run: Run) -> bool:
    """Let the registration of the first instance wait for a lock until the others are received.

    Return False if a sender was cut off. All are registered when this returns True: the first one alone, the
    others in one batch.
    """
    batches, first = run.senders.batches[:AT_ONCE], run.senders.batches[0][1][0].sop_instance_uid
    left = []
    run.rows(_LOCK, first)
    try:
        for batch in batches:  # one after the other, so that each run passes its points in the same order
            left.append((batch[0], run.send_batch(batch)))
            wait_until(lambda: run.died() or run.one(_BLOCKED), MEET_SECONDS, "the registration of the first")
    finally:
        run.rows(_UNLOCK, first)
    run.senders.batches[:AT_ONCE] = [batch for batch in left if batch[1]]
    run.await_registered()
    return not any(instances for _, instances in left)
