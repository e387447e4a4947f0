"""Correlate results in the transaction that registers them, or that registers their sources later.

A result whose correlation PostgreSQL refuses is registered all the same, as unmatched: it goes to the PACS.
What a result names that matched nothing is remembered. If one of these instances, series or studies is
registered later, the result is correlated again.
"""

from collections.abc import Sequence
from pathlib import Path

from gateway.correlate import Correlated, Result, correlate, correlate_equal
from gateway.database.session import Session
from gateway.database.tables import results as table
from gateway.database.tables.instances import ReceptionVerdict, RegisteredInstance
from gateway.database.tables.results import UnmatchedResult
from gateway.domain.instance import Place
from gateway.domain.matching import Correlation, Match
from gateway.errors import DatabaseRefusedError, DataSetError, FileMissingError, SpoolError
from gateway.register.caller_origin import CallerOrigins
from gateway.register.registration_log import log_references_cut_off
from gateway.register.unregistered import Unregistered
from gateway.spool.part10_file import References, read_references
from gateway.spool.spool import Spool

MAX_REMEMBERED = 200
"""How many UIDs of a result that matched nothing are remembered."""


def correlate_one(
    session: Session, one: Unregistered, registered: RegisteredInstance, origins: CallerOrigins
) -> Correlated:
    """Correlate a result that was registered in this transaction."""
    envelope = one.envelope
    workers = _workers(origins, envelope.calling_ae_title, envelope.remote_address)
    if registered.verdict is ReceptionVerdict.EQUALS_SOURCE:
        return correlate_equal(session, registered.instance_id, workers)
    references = _references(one.path, envelope.transfer_syntax_uid)
    if references.defect:
        log_references_cut_off(one, references.defect)
    result = _result(
        registered.instance_id, workers, envelope.sop_instance_uid, envelope.study_instance_uid, references
    )
    session.script("SAVEPOINT correlation")
    try:
        found = correlate(session, result)
    except DatabaseRefusedError as error:
        if error.is_collision:
            raise
        session.script("ROLLBACK TO SAVEPOINT correlation")
        table.flag(session, registered.instance_id, Correlation.UNMATCHED, late=False)
        return Correlated(Match(Correlation.UNMATCHED, (), ()), late=False)
    if found.match.correlation is Correlation.UNMATCHED:
        table.remember_unmatched(session, registered.instance_id, _named(result))
    return found


def correlate_again(
    session: Session, originals: Sequence[Unregistered], spool: Spool, origins: CallerOrigins
) -> list[int]:
    """Correlate the results that matched nothing and name one of `originals`; return those that match now."""
    uids = {
        uid
        for one in originals
        for uid in (
            one.envelope.sop_instance_uid,
            one.envelope.series_instance_uid,
            one.envelope.study_instance_uid,
        )
    }
    matched = []
    for waiting in table.unmatched_that_name(session, sorted(uids)):
        found = correlate(session, _again(waiting, spool, origins))
        if found.match.correlation is not Correlation.UNMATCHED:
            table.forget_unmatched(session, waiting.instance_id)
            matched.append(waiting.instance_id)
    return matched


def _again(waiting: UnmatchedResult, spool: Spool, origins: CallerOrigins) -> Result:
    try:
        path = spool.find(Place(waiting.place), waiting.study_instance_uid, waiting.file_name)
        references = _references(path, waiting.transfer_syntax_uid)
    except SpoolError:
        references = References()  # purged: its own study is left
    workers = _workers(origins, waiting.calling_ae_title, waiting.remote_address)
    return _result(
        waiting.instance_id, workers, waiting.sop_instance_uid, waiting.study_instance_uid, references
    )


def _references(path: Path, transfer_syntax_uid: str) -> References:
    try:
        return read_references(path, transfer_syntax_uid)
    except (DataSetError, FileMissingError) as error:
        return References(defect=str(error))


def _workers(origins: CallerOrigins, calling_ae_title: str, remote_address: str) -> Sequence[str]:
    return origins.identify(calling_ae_title, remote_address).workers or (calling_ae_title,)


def _result(
    instance_id: int,
    workers: Sequence[str],
    sop_instance_uid: str,
    study_instance_uid: str,
    references: References,
) -> Result:
    return Result(
        instance_id,
        workers,
        sop_instance_uid,
        study_instance_uid,
        references.sop_instance_uids,
        references.series_instance_uids,
        references.study_instance_uids,
    )


def _named(result: Result) -> list[str]:
    named = (
        result.sop_instance_uid,
        result.study_instance_uid,
        *result.referenced_study_instance_uids,
        *result.referenced_series_instance_uids,
        *result.referenced_sop_instance_uids,
    )
    return list(dict.fromkeys(named))[:MAX_REMEMBERED]
