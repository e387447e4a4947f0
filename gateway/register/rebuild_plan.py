"""Decide under which name and epoch a rebuild pairs spool and database, or refuse it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from gateway.database.session import Session
from gateway.database.tables import spools
from gateway.domain.pairing import FIRST_EPOCH, Pair, sentence
from gateway.errors import UnknownSpoolError
from gateway.spool.identity import SpoolIdentity
from gateway.spool.marks import Identity
from gateway.spool.pair import find_pair, holds_files


@dataclass(frozen=True, slots=True)
class RebuildPlan:
    """What a rebuild does.

    `why` is the sentence about the pair; empty if it is known or new. `epoch`: files of an older one are
    left; 0 takes all. `forgets`: the rows are from before a reset-db, and are deleted first.
    """

    pair: Pair
    why: str
    identity: Identity
    seen_at: datetime | None
    epoch: int
    forgets: bool

    @property
    def was_unknown(self) -> bool:
        """Whether the rows may be behind the files."""
        return self.pair is not Pair.KNOWN


def plan(identity: SpoolIdentity, session: Session) -> RebuildPlan:
    """Return what a rebuild has to do.

    Raises:
        UnknownSpoolError: spool and database hold instances of different edges, so they must not be mixed.
    """
    pair, marks, database = find_pair(identity.root, session)
    why = "" if pair in {Pair.KNOWN, Pair.NEW} else sentence(pair, str(identity.root), marks, database)
    name, epoch = marks.name, marks.epoch
    if pair is Pair.OTHER_NAME and spools.has_instances(session):
        if holds_files(identity.root):
            raise UnknownSpoolError(
                f"{why}. Both hold instances, so a rebuild would mix those of two edges: nothing was done"
            )
        name, epoch = database.name, database.epoch
    elif name is None:
        name, epoch = database.name or uuid4(), database.epoch if database.name else FIRST_EPOCH
    elif pair is Pair.OLD_SPOOL:
        epoch = database.epoch
    assert name is not None, "one of the two has a name, or a new one was drawn"
    return RebuildPlan(
        pair=pair,
        why=why,
        identity=Identity(name, epoch),
        seen_at=marks.seen_at,
        epoch=0 if marks.name is None else epoch,
        forgets=pair is Pair.RESET,
    )
