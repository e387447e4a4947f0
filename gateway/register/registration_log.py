"""The log lines of a registration, with the fields that all of them share (G8: UIDs and AE titles only)."""

from datetime import UTC, datetime

from gateway import log
from gateway.correlate import Correlated
from gateway.database.tables.instances import ReceptionVerdict, RegisteredInstance
from gateway.domain.instance import Kind
from gateway.domain.routing import Route
from gateway.errors import GatewayError
from gateway.log import Stage
from gateway.register.caller_origin import Caller, CallerOrigins
from gateway.register.unregistered import Unregistered

NOT_FORWARDED = frozenset({ReceptionVerdict.NOT_FORWARDED, ReceptionVerdict.OWED_IN_PART})
CAME_BACK = "has the SOP Instance UID of a stored result, but other bytes: goes to the PACS and to no worker"


def log_registered(
    one: Unregistered, registered: RegisteredInstance, correlated: Correlated | None, origins: CallerOrigins
) -> None:
    """Log the correlation of a result, and what the database did with the instance."""
    if correlated is not None:
        caller = origins.identify(one.envelope.calling_ae_title, one.envelope.remote_address)
        _write(
            one,
            Stage.AI_RESULT,
            correlated.outcome,
            instance_id=registered.instance_id,
            count=len(correlated.match.source_instance_ids),
            level="warning" if caller.by_address else "info",
            detail=_why_a_result(caller) if caller.by_address else None,
        )
    elif registered.kind is Kind.RESULT and registered.verdict is ReceptionVerdict.CONFLICT:
        _write(one, Stage.AI_RESULT, "came_back", instance_id=registered.instance_id, detail=CAME_BACK)
    _write(
        one,
        Stage.QUEUE,
        registered.verdict.value,
        instance_id=registered.instance_id,
        detail=_how_to_forward(one) if registered.verdict in NOT_FORWARDED else None,
    )


def log_references_cut_off(one: Unregistered, defect: str) -> None:
    """Log that the references of a result could be read in part only."""
    _write(one, Stage.AI_RESULT, "references_cut_off", level="warning", error=defect)


def log_not_finished(one: Unregistered, error: GatewayError) -> None:
    """Log that the disk refuses to finish the file of a reception; the sweep tries it again."""
    _write(one, Stage.QUEUE, "not_finished", level="error", error=str(error))


def log_of_older_epoch(one: Unregistered, epoch: int) -> None:
    """Log that a reception from before a reset-db is not registered."""
    _write(
        one,
        Stage.QUEUE,
        "of_older_epoch",
        level="warning",
        detail=f"received in epoch {one.envelope.epoch}; reset-db began epoch {epoch} and forgot it",
    )


def log_unforeseen(one: Unregistered, error: GatewayError) -> None:
    """Log that PostgreSQL refuses a reception, which is set aside in failed/."""
    _write(
        one,
        Stage.QUEUE,
        "not_registrable",
        level="error",
        error=str(error),
        detail="acknowledged, and its file is in failed/; it is tried again when mini-pacs serve starts",
    )


def _how_to_forward(one: Unregistered) -> str:
    has_archives = any(target.route is Route.ARCHIVES for target in one.envelope.targets)
    return (
        "delivered before, so it is not sent again; where an archive lacks it: "
        f"mini-pacs deliveries resend --route pacs --study {one.envelope.study_instance_uid}"
        f"{', or with --route archives for the archives beside the PACS' if has_archives else ''}"
    )


def _write(
    one: Unregistered,
    stage: Stage,
    outcome: str,
    *,
    level: log.Level = "info",
    error: str | None = None,
    detail: str | None = None,
    count: int | None = None,
    instance_id: int | None = None,
) -> None:
    envelope = one.envelope
    log.write(
        stage,
        outcome,
        level=level,
        study_instance_uid=envelope.study_instance_uid,
        sop_instance_uid=envelope.sop_instance_uid,
        calling_ae_title=envelope.calling_ae_title,
        called_ae_title=envelope.called_ae_title,
        remote_address=envelope.remote_address,
        duration_ms=(datetime.now(UTC) - envelope.received_at).total_seconds() * 1000,
        error=error,
        detail=detail,
        count=count,
        instance_id=instance_id,
    )


def _why_a_result(caller: Caller) -> str:
    return (
        f"came from the address of {', '.join(caller.workers)} under another AE title: received as a "
        "result, so that it goes to no worker; name the title in calling_ae_titles of that worker"
    )
