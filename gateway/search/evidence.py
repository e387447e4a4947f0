"""Gather what is known of a UID, or of the instances of an AE title: kept, refused, unregistered, purged."""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

from gateway.database.session import Session
from gateway.database.tables import evidence, history, refusals
from gateway.database.tables.evidence import Counted, KeptStudy, RuledOut, Troubled
from gateway.database.tables.history import PastInstance
from gateway.database.tables.refusals import RefusalRow, RefusedInstance
from gateway.errors import FileMissingError, SpoolError
from gateway.register.unregistered import finished_links
from gateway.spool.envelope import Envelope, read_envelope
from gateway.spool.partial import PARTIAL
from gateway.spool.spool import Spool

MAX_PAST = 5000
"""Instances of the history that are read; undelivered ones come first."""
MAX_REFUSED = 1000
MAX_LINKS = 10_000
"""Unregistered receptions whose envelopes are read."""
MAX_STUDIES = 50


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one UID. `troubled` are the worst deliveries, up to a limit."""

    uid: str
    studies: tuple[KeptStudy, ...] = ()
    deliveries: tuple[Counted, ...] = ()
    troubled: tuple[Troubled, ...] = ()
    ruled_out: tuple[RuledOut, ...] = ()
    refused: tuple[RefusedInstance, ...] = ()
    past: tuple[PastInstance, ...] = ()
    unregistered: int = 0
    unregistered_since: datetime | None = None

    @property
    def is_known(self) -> bool:
        """Tell whether anything is known of it."""
        return bool(self.studies or self.refused or self.past or self.unregistered)


@dataclass(frozen=True, slots=True)
class OfSender:
    """Instances that an AE title sent in a time, and its refusals; each study once, the last one first."""

    ae_title: str
    begin: datetime
    until: datetime
    study_instance_uids: tuple[str, ...]
    refusals: tuple[RefusalRow, ...]


def of_uid(session: Session, uid: str, *, limit: int, envelopes: tuple[Envelope, ...] = ()) -> Evidence:
    """Gather what is known of an instance, a series or a study."""
    return replace(
        of_spool(uid, envelopes),
        studies=tuple(evidence.studies(session, uid)),
        deliveries=tuple(evidence.deliveries(session, uid)),
        troubled=tuple(evidence.troubled(session, uid, limit=limit)),
        ruled_out=tuple(evidence.ruled_out(session, uid)),
        refused=tuple(refusals.instances(session, uid, limit=MAX_REFUSED)),
        past=tuple(history.find(session, uid, limit=MAX_PAST)),
    )


def of_spool(uid: str, envelopes: tuple[Envelope, ...]) -> Evidence:
    """Return what these envelopes of unregistered receptions show of an instance, a series or a study."""
    waiting = [
        envelope
        for envelope in envelopes
        if uid in {envelope.sop_instance_uid, envelope.series_instance_uid, envelope.study_instance_uid}
    ]
    return Evidence(
        uid=uid,
        unregistered=len(waiting),
        unregistered_since=min((envelope.received_at for envelope in waiting), default=None),
    )


def of_sender(session: Session, ae_title: str, begin: datetime, until: datetime) -> OfSender:
    """Gather the instances that an AE title sent between two times, and its refusals."""
    studies = [
        *evidence.of_sender(session, ae_title, begin=begin, until=until, limit=MAX_STUDIES),
        *history.of_sender(session, ae_title, begin=begin, until=until, limit=MAX_STUDIES),
    ]
    studies.sort(key=lambda study: study.last_received_at, reverse=True)
    since = datetime.now(begin.tzinfo) - begin
    rows = refusals.page(session, max(since, timedelta()), calling_ae_title=ae_title)
    return OfSender(
        ae_title,
        begin,
        until,
        tuple(dict.fromkeys(study.study_instance_uid for study in studies)),
        tuple(row for row in rows if row.first_at <= until),
    )


def unregistered(spool: Spool, *, most: int = MAX_LINKS) -> tuple[Envelope, ...]:
    """Return the envelopes of receptions that are durable and have no rows yet, at most `most`."""
    found = []
    for link in islice(finished_links(spool.root / PARTIAL), most):
        with suppress(FileMissingError, SpoolError):  # registered meanwhile
            envelope = read_envelope(Path(link.path))
            if envelope is not None:
                found.append(envelope)
    return tuple(found)
