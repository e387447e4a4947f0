"""Record in the transaction of a change how many rows it changed."""

from collections.abc import Callable

from gateway.database.session import Session
from gateway.database.tables import activity
from gateway.database.tables.activity import Operator

Record = Callable[[Session, int], None]
"""Called in the transaction that changes rows, with their number, which is at least 1."""


def recorder(operator: Operator, verb: str, target: str, done: str) -> Record:
    """Return what adds a row to the record of what operators did, as `12 retried`."""

    def record(session: Session, count: int) -> None:
        activity.record(session, operator, verb, target, count=count, outcome=f"{count:,} {done}")

    return record
