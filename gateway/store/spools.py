"""Which spool the rows speak of."""

from uuid import UUID

from gateway.store.database import Session
from gateway.store.queries import load

_Q = load("spool")


def known(session: Session) -> tuple[UUID | None, bool]:
    """The spool of this database, None before the first start; and whether any instance is kept."""
    row = session.one(_Q["known"])
    assert row is not None
    return (None if row[0] is None else UUID(row[0])), row[1]


def know(session: Session, spool_id: UUID) -> None:
    """The database belongs to that spool, unless it belongs to one already."""
    session.run(_Q["know"], id=str(spool_id))
