"""Correlate results in the transaction that registers them, or after their sources are registered later.

A result whose correlation PostgreSQL refuses is registered all the same, as unmatched: it goes to the PACS.
If a result matches nothing, the UIDs that it names are remembered. If one of these instances, series or
studies is registered later, the result is correlated again.
"""

from collections.abc import Sequence
from pathlib import Path

from gateway.correlate import Correlated, Result, correlate, correlate_equal
from gateway.database.pool import Database
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

_NOT_CORRELATED = frozenset({ReceptionVerdict.NAME_TAKEN, ReceptionVerdict.REGISTERED})


def correlate_batch(
    session: Session,
    batch: Sequence[Unregistered],
    found: Sequence[RegisteredInstance],
    origins: CallerOrigins,
) -> list[Correlated | None]:
    """Correlate the results of a batch that was registered in this transaction.

    None stands for an original, and for what was registered before or not at all.
    """
    correlated: list[Correlated | None] = [None] * len(batch)
    asked: dict[int, Result] = {}
    for position, (one, registered) in enumerate(zip(batch, found, strict=True)):
        if one.is_original or registered.verdict in _NOT_CORRELATED:
            continue
        workers = _workers(origins, one.envelope.calling_ae_title, one.envelope.remote_address)
        if registered.verdict is not ReceptionVerdict.EQUALS_SOURCE:
            asked[position] = _result_of(one, registered.instance_id, workers)
            continue
        # What was expected is met in the order of the batch.
        _correlate(session, asked, correlated)
        asked = {}
        correlated[position] = correlate_equal(session, registered.instance_id, workers)
    _correlate(session, asked, correlated)
    return correlated


def _correlate(session: Session, asked: dict[int, Result], correlated: list[Correlated | None]) -> None:
    """Correlate results by their positions, and write what was found into `correlated`."""
    for position, found in zip(asked, correlate(session, list(asked.values())), strict=True):
        correlated[position] = found
        if found.match.correlation is Correlation.UNMATCHED:
            table.remember_unmatched(session, asked[position].instance_id, _named(asked[position]))


def correlate_one(
    session: Session, one: Unregistered, registered: RegisteredInstance, origins: CallerOrigins
) -> Correlated | None:
    """Correlate one as `correlate_batch` does; leave a result unmatched if PostgreSQL refuses that."""
    if one.is_original or registered.verdict in _NOT_CORRELATED:
        return None
    session.add_to_next("SAVEPOINT correlation;")
    try:
        [correlated] = correlate_batch(session, [one], [registered], origins)
    except DatabaseRefusedError as error:
        if error.may_pass or registered.verdict is ReceptionVerdict.EQUALS_SOURCE:
            raise
        session.script("ROLLBACK TO SAVEPOINT correlation")
        table.flag(session, registered.instance_id, Correlation.UNMATCHED, late=False)
        return Correlated(Match(Correlation.UNMATCHED, (), ()), late=False)
    return correlated


def _result_of(one: Unregistered, instance_id: int, workers: Sequence[str]) -> Result:
    envelope = one.envelope
    references = _references(one.path, envelope.transfer_syntax_uid)
    if references.defect:
        log_references_cut_off(one, references.defect)
    return _result(instance_id, workers, envelope.sop_instance_uid, envelope.study_instance_uid, references)


def correlate_again(
    database: Database, batch: Sequence[Unregistered], spool: Spool, origins: CallerOrigins
) -> bool:
    """Correlate the results that matched nothing and name something in `batch`; tell whether one matches now.

    Call it after the commit of `batch`. A result and its source may be registered at the same time, and
    neither transaction sees the other one. Each looks after its commit, so the later one finds both.

    Raises:
        DatabaseUnavailableError: call it again.
    """
    uids = sorted({uid for one in batch for uid in _uids(one)})
    with database.statement() as session:
        if not table.unmatched_that_name(session, uids):
            return False
    with database.transaction() as session:
        waiting = table.unmatched_that_name(session, uids)
        matched = [_matches_now(session, one, spool, origins) for one in waiting]
    return any(matched)


def _uids(one: Unregistered) -> Sequence[str]:
    envelope = one.envelope
    if not one.is_original:
        return (envelope.sop_instance_uid,)  # what a result names includes its own UID
    return (envelope.sop_instance_uid, envelope.series_instance_uid, envelope.study_instance_uid)


def _matches_now(session: Session, waiting: UnmatchedResult, spool: Spool, origins: CallerOrigins) -> bool:
    session.add_to_next("SAVEPOINT correlation;")
    try:
        [found] = correlate(session, [_again(waiting, spool, origins)])
    except DatabaseRefusedError as error:
        if error.may_pass:
            raise
        session.script("ROLLBACK TO SAVEPOINT correlation")  # it stays unmatched
        table.forget_unmatched(session, waiting.instance_id)
        return False
    if found.match.correlation is Correlation.UNMATCHED:
        return False
    table.forget_unmatched(session, waiting.instance_id)
    return True


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
