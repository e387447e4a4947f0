"""The spool that the database belongs to: its name, its epoch and the last time mark."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.database.tables.sweeps import FileRow
from gateway.domain.pairing import DatabaseMarks, SpoolMarks

_Q = load("spools")
_UNNAMED = DatabaseMarks(None)
NOT_THIS_SPOOL = ("MP001", "42883", "42P01")
"""SQLSTATEs of a `requirement` that is not met; the last two mean that its function or table is missing."""


class _Tables(NamedTuple):
    has_spool: bool
    has_instances: bool


class _Marks(NamedTuple):
    name: str
    epoch: int
    seen_at: datetime


def marks(session: Session) -> DatabaseMarks:
    """Return the marks.

    Raises:
        DatabaseRefusedError: there is no such table (sqlstate 42P01).
    """
    row = session.row(_Marks, _Q["marks"])
    return _UNNAMED if row is None else DatabaseMarks(UUID(row.name), row.epoch, row.seen_at)


def marks_of_any(session: Session) -> DatabaseMarks:
    """Return the marks of a database of any version, or of an empty one."""
    tables = session.only(_Tables, _Q["tables"])
    return marks(session) if tables.has_spool else _UNNAMED


def has_schema(session: Session) -> bool:
    """Tell whether the database has a schema of this version or of one before."""
    return session.only(_Tables, _Q["tables"]).has_instances


def has_instances(session: Session) -> bool:
    """Tell whether an instance is kept; False if there is no schema."""
    tables = session.only(_Tables, _Q["tables"])
    return tables.has_instances and bool(session.value(_Q["has_instances"]))


def sample(session: Session, *, limit: int) -> list[FileRow]:
    """Return the files of some instances, of each kind at most `limit`."""
    return session.rows(FileRow, _Q["sample"], limit=limit)


def pair(session: Session, name: UUID, epoch: int) -> None:
    """Write the name of the spool, unless the database has one already."""
    session.run(_Q["pair"], name=str(name), epoch=epoch)


def adopt(session: Session, name: UUID, epoch: int, seen_at: datetime | None) -> None:
    """Write the name of the spool; replace any other."""
    session.run(_Q["adopt"], name=str(name), epoch=epoch, seen_at=seen_at)


def mark(session: Session, name: UUID, epoch: int) -> datetime | None:
    """Write the next time mark; return it, or None if the database belongs to another spool or epoch."""
    marked: datetime | None = session.value(_Q["mark"], name=str(name), epoch=epoch)
    return marked


def requirement(marks: SpoolMarks) -> str:
    """Return a statement that fails with NOT_THIS_SPOOL unless these are the marks of the database's spool.

    Send it in front of a registration: no new epoch begins before that ends. See functions/require_spool.sql.
    """
    seen_at = "NULL" if marks.seen_at is None else f"'{marks.seen_at.isoformat()}'"
    return f"SELECT require_spool('{marks.name}', {marks.epoch:d}, {seen_at});"


def begin_epoch(session: Session, name: UUID, epoch: int) -> None:
    """Write a new epoch in the caller's transaction; until it ends, no reception is registered."""
    session.one(_Q["begin_epoch"])
    session.run(_Q["set_epoch"], name=str(name), epoch=epoch)
