"""Rare receptions: concurrent senders, a taken file name, large data, a repeat after an hour.

Each of the four runs code that the usual receptions do not, with other crash points: a commit for several
instances, a second link, a flush before the rows are written, a file that replaces a lost one.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from support.synthetic_instances import Instance
from support.waiting import wait_until

from gateway.receive.c_store import LARGE_BYTES
from proof.crash_points.environment import Run, Senders

AT_ONCE = 3
"""The first sender commits; meanwhile the others gather to a batch."""
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
    large = Instance(payload=bytes(LARGE_BYTES + 2))
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
    if len(batches) < AT_ONCE or not _send_at_once(run):
        return False
    return run.send()


def _send_at_once(run: Run) -> bool:
    """Let the first sender hold the commit by a lock until the files of the others are flushed."""
    batches, first = run.senders.batches[:AT_ONCE], run.senders.batches[0][1][0].sop_instance_uid
    run.rows(_LOCK, first)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            sending = []
            for batch in batches:  # one after the other, so that each run passes its points in the same order
                flushed = run.logged("durable")
                sending.append(pool.submit(run.send_batch, batch))
                wait_until(
                    lambda: (
                        sending[-1].done() or (run.logged("durable") > flushed and run.one(_BLOCKED))  # noqa: B023  called here
                    ),
                    MEET_SECONDS,
                    "a sender to wait for the commit of the first",
                )
        finally:
            run.rows(_UNLOCK, first)
        left = [(batch[0], future.result()) for batch, future in zip(batches, sending, strict=True)]
    run.senders.batches[:AT_ONCE] = [batch for batch in left if batch[1]]
    return not any(instances for _, instances in left)
