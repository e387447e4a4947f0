"""Find out how the spool in a folder and a database belong together, by their marks and by what they hold.

What both hold is looked at only if one of them has no name. `gateway.domain.pairing` decides; identity.py
calls this at each check, and pairs both if they are new. Nothing is written here.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from gateway.database.session import Session
from gateway.database.tables import spools
from gateway.domain.instance import Place
from gateway.domain.pairing import (
    DatabaseMarks,
    Holdings,
    Pair,
    SpoolMarks,
    pair_of,
    pair_of_named,
    sentence,
)
from gateway.errors import UnknownSpoolError
from gateway.spool.flush import failure
from gateway.spool.marks import read_marks

SAMPLE = 50
"""How many files of undelivered instances, and how many of all, are looked for at an upgrade."""


def find_pair(root: Path, session: Session) -> tuple[Pair, SpoolMarks, DatabaseMarks]:
    """Return how spool and database belong together; the database may be of any version, or empty.

    Raises:
        UnknownSpoolError: a mark of the spool cannot be read.
    """
    marks = read_marks(root)
    database = spools.marks_of_any(session)
    return pair_with(root, session, marks, database), marks, database


def pair_with(root: Path, session: Session, marks: SpoolMarks, database: DatabaseMarks) -> Pair:
    """Return how they belong together by these marks; look at files and rows only if a name is missing."""
    pair = pair_of_named(marks, database)
    return pair_of(marks, database, _holdings(root, session)) if pair is None else pair


def require_known(root: Path, pair: Pair, marks: SpoolMarks, database: DatabaseMarks) -> None:
    """Return if the pair is known.

    Raises:
        UnknownSpoolError: it is not; the text says what is wrong and what to type.
    """
    if pair is not Pair.KNOWN:
        raise UnknownSpoolError(sentence(pair, str(root), marks, database))


def without_schema(root: Path, marks: SpoolMarks) -> str:
    """Say what is wrong if the database has no table of marks."""
    if marks.seen_at is None and not holds_files(root):
        return f"the database has no schema of this version yet, and {root} is not paired with it"
    return sentence(Pair.EMPTY_DATABASE, str(root), marks, DatabaseMarks(None))


def _holdings(root: Path, session: Session) -> Holdings:
    has_instances = spools.has_instances(session)
    files = [
        (row.study_instance_uid, row.file_name)
        for row in (spools.sample(session, limit=SAMPLE) if has_instances else ())
    ]
    return Holdings(holds_files(root), has_instances, _holds_most_of(root, files))


def holds_files(root: Path) -> bool:
    """Tell whether a place of the spool holds a file.

    Files in orphaned/ and damaged/ do not count, because nothing is owed for them. Neither do those in
    partial/: nothing is received before the spool has a name.

    Raises:
        SpoolError: a folder cannot be read.
    """
    return any(any(_files(root / place)) for place in Place)


def _holds_most_of(root: Path, files: list[tuple[str, str]]) -> bool:
    """Tell whether at least half of these files (study, file name) are in a place of the spool."""
    found = sum(any((root / place / study / name).exists() for place in Place) for study, name in files)
    return bool(files) and found * 2 >= len(files)


def _files(folder: Path) -> Iterator[Path]:
    try:
        yield from islice(folder.glob("*/*"), 1)
    except OSError as error:
        raise failure("list", folder, error) from error
