"""Check whether this spool and this database belong together; pair them if both are new.

A folder whose disk is not mounted looks like a spool whose files are lost. An empty database, or one from a
backup, looks as if no delivery were owed. So each process that works with files and rows checks the pair: on
each new connection, and every few seconds. pair.py finds the pair, and `gateway.domain.pairing` decides. The
object here also holds what the last check found, for processes that receive while PostgreSQL is away.

A pair that is new is written spool first, flushed, then database.

If the process dies
    before `spool.id` is written    nothing has changed
    before the database has a row   there is no time mark yet: the next process pairs them by the name in
                                    `spool.id`
    after that                      the pair is known; the next time mark goes to both

A time mark is committed in the database first, and then written to the spool. A database whose mark is older
than that of the spool lacks commits, so it was restored from a backup. A database that lost less than
MARK_SECONDS may not be noticed. Instances that were received in that time still have their files in
incoming/, and the sweep registers them.
"""

from datetime import datetime
from pathlib import Path
from time import monotonic
from uuid import uuid4

from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import spools
from gateway.domain.pairing import FIRST_EPOCH, Pair, SpoolMarks
from gateway.errors import DatabaseRefusedError, UnknownSpoolError
from gateway.spool.marks import (
    ID,
    SEEN,
    Identity,
    Remembered,
    marks_of,
    read_identity,
    read_marks,
    read_seen,
    write_identity,
    write_seen,
)
from gateway.spool.pair import find_pair, pair_with, require_known, without_schema

MARK_SECONDS = 10.0
"""The time between two time marks. A database that lost less than that may not be noticed."""

_NO_TABLE = "42P01"  # undefined_table


class SpoolIdentity:
    """The identity of the spool in `root`; one object per process, safe across threads and a fork."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._id = Remembered(root / ID, lambda: read_identity(root))
        self._seen = Remembered(root / SEEN, lambda: read_seen(root))
        self._known: SpoolMarks | None = None
        self._problem: str | None = None
        self._problem_is_of_pairing = False
        self._marked_at = -MARK_SECONDS

    @property
    def epoch(self) -> int:
        """The epoch in `spool.id`, as it is on the disk now; FIRST_EPOCH before the first pairing.

        Raises:
            UnknownSpoolError: `spool.id` cannot be read.
        """
        identity = self._identity()
        return FIRST_EPOCH if identity is None else identity.epoch

    def _identity(self) -> Identity | None:
        return self._id.content()

    def _marks(self) -> SpoolMarks:
        """Return the marks as they are on the disk now, the time mark read before the name."""
        seen = self._seen.content()  # before the database: see `read_marks`
        return marks_of(self._id.content(), seen)

    def require_epoch(self, epoch: int) -> None:
        """Return if the spool still has that epoch.

        Raises:
            UnknownSpoolError: a reset-db began a new one, or `spool.id` cannot be read.
        """
        now = self.epoch
        if epoch < now:
            raise UnknownSpoolError(f"a reset-db began epoch {now} of {self.root}; this is of epoch {epoch}")

    # ---- checks ----------------------------------------------------------------------------------

    def check(self, session: Session) -> None:
        """Return if spool and database are a known pair.

        Raises:
            UnknownSpoolError: they are not; the text says what is wrong and what to type.
            DatabaseError: PostgreSQL failed.
        """
        is_pairing = False
        try:
            marks = read_marks(self.root)  # before the database: see `read_marks`
            is_pairing = marks.seen_at is None
            try:
                database = spools.marks(session)
            except DatabaseRefusedError as error:
                if error.sqlstate != _NO_TABLE:
                    raise
                raise UnknownSpoolError(without_schema(self.root, marks)) from error
            pair = pair_with(self.root, session, marks, database)
            require_known(self.root, pair, marks, database)
        except UnknownSpoolError as error:
            self._problem, self._problem_is_of_pairing = str(error), is_pairing
            raise
        self._known, self._problem = marks, None

    def requirement(self, epoch: int) -> str | None:
        """Return a statement that fails unless spool and database are a known pair; None without a name.

        Send it in front of the statement that registers receptions, of which `epoch` is the oldest. A failure
        is a DatabaseRefusedError with `spools.NOT_THIS_SPOOL`; then call `check`, which says what is wrong.

        Raises:
            UnknownSpoolError: the spool is of a later epoch, or a mark cannot be read.
        """
        marks = self._marks()
        if marks.name is None:
            return None
        if epoch < marks.epoch:
            raise UnknownSpoolError(
                f"a reset-db began epoch {marks.epoch} of {self.root}; this is of epoch {epoch}"
            )
        return spools.requirement(marks)

    def require_folder(self) -> None:
        """Return if the folder is the spool that the last check found; it does not need the database.

        Raises:
            UnknownSpoolError: it is not.
        """
        problem = self.why_refused()
        if problem is not None:
            raise UnknownSpoolError(problem)

    def why_refused(self) -> str | None:
        """Return why nothing may be received now, or None.

        While PostgreSQL is away, a spool that was paired before receives.
        """
        try:
            identity = self._identity()
            was_paired = self._known is not None or read_marks(self.root).seen_at is not None
        except UnknownSpoolError as error:
            return str(error)
        if self._problem is not None and not self._was_paired_since():
            return self._problem
        if identity is None or not was_paired:
            return (
                f"{self.root} was not paired with a database yet, or its disk is not mounted. Nothing is "
                "received until PostgreSQL can be reached and knows this spool"
            )
        if self._known is not None and identity.name != self._known.name:
            return f"{self.root} is another spool than before ({identity.name}, not {self._known.name})"
        return None

    def _was_paired_since(self) -> bool:
        """Tell whether another process has paired spool and database since the problem was found."""
        return self._problem_is_of_pairing and (self.root / SEEN).exists()

    def require_possible(self, session: Session) -> None:
        """Return if the pair is known or new. Call it before the schema is migrated.

        Raises:
            UnknownSpoolError: it is neither.
        """
        pair, marks, database = find_pair(self.root, session)
        if pair is not Pair.NEW:
            require_known(self.root, pair, marks, database)

    def require_resettable(self, database: Database) -> None:
        """Return if reset-db may run: the pair is known, an earlier reset did not end, or the pair is new.

        Raises:
            UnknownSpoolError: it may not.
        """
        with database.statement() as session:
            pair, _, _ = find_pair(self.root, session)
        if pair is not Pair.RESET:
            self.recognize(database)

    # ---- changes ---------------------------------------------------------------------------------

    def recognize(self, database: Database) -> None:
        """Return if the pair is known; pair both if they are new.

        Raises:
            UnknownSpoolError: they are an unknown pair.
            SpoolError: the file system refuses.
            DatabaseError: PostgreSQL failed.
        """
        with database.statement() as session:
            pair, marks, _ = find_pair(self.root, session)
            if pair is Pair.NEW:
                if marks.name is None:
                    write_identity(self.root, Identity(uuid4(), FIRST_EPOCH), replace=False)
                # If this process dies here, the next one finds `spool.id` without a time mark, and goes on.
                identity = read_identity(self.root)  # perhaps that of another process, which was first
                if identity is not None:
                    spools.pair(session, identity.name, identity.epoch)
            self.check(session)

    def mark(self, database: Database) -> None:
        """Write the next time mark to both, if it is due.

        Raises:
            SpoolError: the file system refuses.
            DatabaseError: PostgreSQL failed.
        """
        known = self._known
        if known is None or known.name is None or monotonic() - self._marked_at < MARK_SECONDS:
            return
        self._marked_at = monotonic()  # also if it fails: a full disk is tried again at the next mark
        with database.statement() as session:
            marked = spools.mark(session, known.name, known.epoch)
        if marked is not None:
            write_seen(self.root, marked)  # after the commit, so that it is never ahead of the database

    def adopt(self, session: Session, identity: Identity, seen_at: datetime | None) -> None:
        """Pair both under that identity, whatever they were before: spool first, then the database.

        `seen_at` is the last time mark of the spool.

        Raises:
            SpoolError: the file system refuses.
            DatabaseError: PostgreSQL failed.
        """
        write_identity(self.root, identity, replace=True)
        spools.adopt(session, identity.name, identity.epoch, seen_at)
