"""What `mini-pacs db rebuild` writes in addition to a registration."""

from collections.abc import Sequence

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.domain.delivery import State

_Q = load("rebuild")


def analyze(session: Session) -> None:
    """Let PostgreSQL count the rows, so that it searches them by their indexes."""
    session.run(_Q["analyze"])


def settle(session: Session, instance_ids: Sequence[int], state: State, reason: str | None) -> None:
    """Settle the deliveries of instances that were registered in this transaction; delete their messages."""
    ids = list(instance_ids)
    session.run(_Q["settle"], instance_ids=ids, state=state.value, reason=reason)
    session.run(_Q["mend_places"], instance_ids=ids)


def note_reason(session: Session, instance_ids: Sequence[int], reason: str) -> None:
    """Write why the deliveries of these instances are owed; their files are in queued/ then."""
    ids = list(instance_ids)
    session.run(_Q["note_reason"], instance_ids=ids, reason=reason)
    session.run(_Q["mend_places"], instance_ids=ids)


def owe_again(session: Session, instance_ids: Sequence[int], reason: str) -> set[int]:
    """Owe those instances again that have no delivery under way; return them."""
    ids = list(instance_ids)
    owed = set(
        session.values(
            _Q["owe_again"],
            instance_ids=ids,
            reason=reason,
        )
    )
    session.run(_Q["mend_places"], instance_ids=sorted(owed))
    return owed
