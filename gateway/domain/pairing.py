"""Decide whether a spool and a database belong together, from the marks that both carry.

Both carry the name of the spool and its epoch. `mini-pacs reset-db` begins a new epoch. Both also carry a
time mark, which the database gets first. So a database whose mark is older than that of its spool was
restored from a backup.

A pair is known if names and epochs are equal and the database did not go back. A pair that holds nothing that
could be lost is new: it gets its marks by itself. Every other pair is unknown. Then nothing is received,
registered, sent, swept or deleted.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

FIRST_EPOCH = 1


class Pair(StrEnum):
    """What a spool and a database are to each other."""

    KNOWN = "known"
    NEW = "new"
    NOT_MOUNTED = "not_mounted"  # the folder holds nothing, and the database belongs to a spool
    OTHER_SPOOL = "other_spool"  # the folder holds files, but not those of the database
    NO_NAME = "no_name"  # the folder holds files and has no spool.id, and the database belongs to a spool
    OTHER_NAME = "other_name"  # both have a name, and the names differ
    EMPTY_DATABASE = "empty_database"  # the spool was in use, and the database keeps nothing
    OLD_DATABASE = "old_database"  # the database was restored from a backup
    OLD_SPOOL = "old_spool"  # the spool was restored from a backup
    RESET = "reset"  # a reset-db did not end, or the database is a backup from before a reset-db


@dataclass(frozen=True, slots=True)
class SpoolMarks:
    """The marks of a spool. `name` is None if it has none; `seen_at` is None before its first time mark."""

    name: UUID | None
    epoch: int = FIRST_EPOCH
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DatabaseMarks:
    """The marks of a database. `name` is None if it has none."""

    name: UUID | None
    epoch: int = FIRST_EPOCH
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Holdings:
    """What spool and database hold. It is needed only if one of them has no name.

    `rows_have_files`: the files that the rows name are in the spool.
    """

    has_files: bool
    has_instances: bool
    rows_have_files: bool


def pair_of_named(spool: SpoolMarks, database: DatabaseMarks) -> Pair | None:
    """Decide from the marks alone; return None if one of the two has no name."""
    if spool.name is None or database.name is None:
        return None
    if spool.name != database.name:
        return Pair.OTHER_NAME
    if spool.epoch != database.epoch:
        return Pair.RESET if spool.epoch > database.epoch else Pair.OLD_SPOOL
    if spool.seen_at is not None and (database.seen_at is None or database.seen_at < spool.seen_at):
        return Pair.OLD_DATABASE
    return Pair.KNOWN


def pair_of(spool: SpoolMarks, database: DatabaseMarks, holdings: Holdings) -> Pair:
    """Decide from the marks, and from what both hold if one of them has no name."""
    named = pair_of_named(spool, database)
    if named is not None:
        return named
    if database.name is not None:
        return Pair.NO_NAME if holdings.has_files else Pair.NOT_MOUNTED
    if spool.seen_at is not None:
        # The spool was paired before. A crash between the two halves of a pairing leaves no time mark.
        return Pair.OLD_DATABASE if holdings.has_instances else Pair.EMPTY_DATABASE
    if holdings.has_instances:
        # An upgrade from a version without marks: the files must be there.
        if holdings.rows_have_files:
            return Pair.NEW
        return Pair.OTHER_SPOOL if holdings.has_files else Pair.NOT_MOUNTED
    return Pair.EMPTY_DATABASE if holdings.has_files else Pair.NEW


EFFECT = "No image is received, sent or deleted until this is settled, and nothing is lost"

_FACT = {
    Pair.NEW: "{root} and the database do not know each other yet",
    Pair.NOT_MOUNTED: (
        "{root} is empty, and the database {owner}: the disk of the spool is not mounted, or edge.data_root "
        "is wrong"
    ),
    Pair.OTHER_SPOOL: (
        "{root} holds other files than those of the database, which {owner}: edge.data_root or DATABASE_URL "
        "is wrong"
    ),
    Pair.NO_NAME: (
        "{root} has no spool.id, so it is not known to be the spool of the database, which {owner}: somebody "
        "removed that file, or edge.data_root or DATABASE_URL is wrong"
    ),
    Pair.OTHER_NAME: (
        "{root} is spool {spool.name}, and the database {owner}: edge.data_root or DATABASE_URL is wrong"
    ),
    Pair.EMPTY_DATABASE: (
        "The database keeps no instance, and {root} was in use before: DATABASE_URL is wrong, or the "
        "database was lost"
    ),
    Pair.OLD_DATABASE: (
        "The database is older than {root}: it was in use until {database_seen}, the spool until "
        "{spool_seen}; it was restored from a backup"
    ),
    Pair.OLD_SPOOL: (
        "{root} is an older copy of the spool (epoch {spool.epoch}; the database has epoch {database.epoch})"
    ),
    Pair.RESET: (
        "A reset-db began epoch {spool.epoch} of {root}, and the database still has epoch {database.epoch}: "
        "the reset did not end, or the database is a backup from before it"
    ),
}

_ADVICE = {
    Pair.NEW: "The next process that starts pairs them",
    Pair.NOT_MOUNTED: "Mount the disk; if it is lost for good, run `mini-pacs db rebuild`",
    Pair.OTHER_SPOOL: (
        "Correct it; if the spool of this database is lost for good, run `mini-pacs db rebuild`"
    ),
    Pair.NO_NAME: (
        "Restore spool.id, or correct the path; if the spool of this database is lost for good, run "
        "`mini-pacs db rebuild`"
    ),
    Pair.OTHER_NAME: (
        "Correct it; if the database of this spool is lost, let DATABASE_URL name an empty one and run "
        "`mini-pacs db rebuild`"
    ),
    Pair.EMPTY_DATABASE: "Correct DATABASE_URL; if the database is lost, run `mini-pacs db rebuild`",
    Pair.OLD_DATABASE: "Run `mini-pacs db rebuild`",
    Pair.OLD_SPOOL: "Mount the right disk; if it is lost for good, run `mini-pacs db rebuild`",
    Pair.RESET: "Run `mini-pacs reset-db` to end the reset; after a backup, run `mini-pacs db rebuild`",
}


def sentence(pair: Pair, root: str, spool: SpoolMarks, database: DatabaseMarks) -> str:
    """Say what is wrong with an unknown pair, what it means for images, and what to type next."""
    fact = _FACT[pair].format(
        root=root,
        spool=spool,
        database=database,
        owner=f"belongs to spool {database.name}" if database.name else "names files that are not there",
        spool_seen=_moment(spool.seen_at),
        database_seen=_moment(database.seen_at),
    )
    return f"{fact}. {EFFECT}. {_ADVICE[pair]}"


def parted(text: str) -> tuple[str, str]:
    """Return what is wrong and what to do of a text of `sentence`; nothing to do of any other text."""
    fact, _, advice = text.partition(f". {EFFECT}. ")
    return fact, advice


def _moment(at: datetime | None) -> str:
    return "an unknown time" if at is None else at.isoformat(sep=" ", timespec="seconds")
