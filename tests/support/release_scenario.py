"""The instances of a release's data (`python -m released`), and the deliveries that each is owed.

The UIDs and bytes are fixed, so that the test of a later version knows them.
"""

from dataclasses import replace

from support.synthetic_instances import Instance, result_of

ROOT = "1.2.826.0.1.20261128"


def _original(number: int, *, study: int | None = None, version: int = 0) -> Instance:
    """Return the n-th original, by default of a study of its own. A version has other bytes."""
    return Instance(
        sop_instance_uid=f"{ROOT}.1.{number}",
        study_instance_uid=f"{ROOT}.2.{study or number}",
        series_instance_uid=f"{ROOT}.3.{study or number}",
        payload=bytes([number, version]) * 32,
    )


def _result(number: int, *sources: Instance, study: str | None = None) -> Instance:
    """Return the n-th result; it references these instances, or none."""
    made = result_of(*sources, study=study or f"{ROOT}.2.99", number=number)
    return replace(made, sop_instance_uid=f"{ROOT}.4.{number}")


DELIVERED = _original(1)
"""Delivered on both routes, with a result; its sender sent it again, which was not forwarded."""
RETRIED = _original(2)
"""The PACS answered "not now": it waits, and its file is in queued/."""
DEAD = _original(3)
"""The PACS refused it: dead, and its file is in failed/."""
CANCELLED = _original(4)
"""An operator cancelled it on both routes."""
IN_FLIGHT = _original(5)
"""The PACS had not answered when the actor process was killed."""
PARKED = _original(6, study=5)
"""An instance of the same study, which waits for the other one."""
FIRST = _original(7)
SECOND = _original(7, version=1)
"""Two versions of one UID; both wait, and the first has to be sent before the second."""
SENT_FIRST = _original(8)
NEWER = _original(8, version=1)
"""Two versions of one UID; the first is delivered, the second waits."""
LATE = _original(9)
"""The first worker's result came after its deadline, when a second worker had the instance."""
UNANSWERED = _original(10)
"""No worker answered; given up."""
OWED = _original(11)
"""A worker has it and still owes the result."""
DEAD_MESSAGE = _original(12)
"""Its message was dead-lettered, so its delivery to the PACS is dead."""
PENDING = _original(13)
"""Received while no actor ran; never tried. Its sender sent it twice."""

ARRIVED_RESULT = _result(1, DELIVERED)
"""Delivered to the PACS."""
LATE_RESULT = _result(2, LATE)
WAITING_RESULT = _result(3, DELIVERED)
"""Received while no actor ran."""
UNMATCHED_RESULT = _result(4)
"""Its source is not known; it waits for the PACS."""

NO_ROW = _original(20)
"""The receiver was killed after the file had its name, before the row: never acknowledged."""
CUT_OFF = replace(_original(21), payload=bytes(2_000_000))
"""The receiver was killed in the middle of the data set: a `.part`."""

OWED_TO_PACS = (
    RETRIED, IN_FLIGHT, PARKED, FIRST, SECOND, NEWER, PENDING, WAITING_RESULT, UNMATCHED_RESULT,
)  # fmt: skip
"""The instances that the PACS has to get after the upgrade, each once."""
OWED_TO_WORKERS = (IN_FLIGHT, PARKED, FIRST, SECOND, NEWER, DEAD_MESSAGE, PENDING)
"""The instances that one worker has to get after the upgrade, each once."""
EVERY = (
    DELIVERED, RETRIED, DEAD, CANCELLED, IN_FLIGHT, PARKED, FIRST, SECOND, SENT_FIRST, NEWER, LATE,
    UNANSWERED, OWED, DEAD_MESSAGE, PENDING, ARRIVED_RESULT, LATE_RESULT, WAITING_RESULT, UNMATCHED_RESULT,
)  # fmt: skip
"""Every instance with a row."""
