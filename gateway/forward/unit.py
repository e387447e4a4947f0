"""Forward a unit: claim it if it is complete, send it whole to one worker, and record what came of it.

This is the entry point of the actor. A message only starts the work; the row of the unit says what is to be
done, and its message comes again until it is complete.

If the process dies
    before the claim           another process runs the message
    while it is sent           the unit stays `sending`; another process gets its message and claims it. The
                               worker gets the unit again, whole, which is harmless (G4)
    before it is settled       the same
    before the files are       the sweep corrects the folders in the rows; readers look in every folder, and
    moved                      reconcile moves the files
    after that                 the message runs again and finds nothing to do
"""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from gateway import log
from gateway.config.forwarder import ApplicationInForce
from gateway.database.tables import breakers, instances, units
from gateway.database.tables.deliveries import mend_places
from gateway.database.tables.units import Member, Unit, UnitClaim, UnitSettlement, UnitVerdict
from gateway.domain.backoff import delay
from gateway.domain.outcome import RULES, Limits, Outcome, PeerHealth, reason_to_give_up
from gateway.domain.routing import Route
from gateway.errors import GatewayError
from gateway.forward.context import STAGE, ForwardContext
from gateway.forward.renewal import Lease
from gateway.forward.send_result import SendResult
from gateway.forward.settle import repeat_while_away
from gateway.forward.unit_sending import UnitSending
from gateway.log import Stage

NO_WORKER_SECONDS = 10.0
"""How long a unit waits if all workers are busy; a result wakes it before."""

FILES = 100
"""How many files are moved in one transaction."""

SENT = "sent"
"""The outcome of a unit that was sent whole."""


def forward_unit(
    context: ForwardContext, unit_id: int, *, unregistered_since: Callable[[], datetime | None]
) -> Outcome | None:
    """Send a unit if it is complete and a worker is free; return the outcome, None if nothing was sent.

    `unregistered_since` returns the time of the oldest reception that is not registered.
    """
    context.require_spool()  # if the disk is not mounted, nothing is claimed, and the message comes again
    forwarder = context.configuration.forwarder
    began = time.monotonic()
    oldest = unregistered_since()
    # A statement of its own: if this process is frozen after it, no registration waits for its locks (G5).
    with context.database.statement() as session:
        claim = units.claim(
            session,
            unit_id,
            consumer=context.consumer(),
            lease=timedelta(seconds=forwarder.lease_seconds),
            unregistered_since=oldest,
            wait=timedelta(seconds=NO_WORKER_SECONDS * (0.5 + random.random())),  # noqa: S311  spreads the load
        )
    if claim.verdict is not UnitVerdict.CLAIMED:
        return None
    # From the claim on, nothing joins the unit. If the process dies here, another one claims the unit.
    with context.database.statement() as session:
        unit = units.get(session, unit_id)
        members = units.members(session, unit_id)
    if unit is None or not members:
        return None  # an operator cancelled all of it just now; its lease ends, and the next claim cancels it
    return _send(context, unit, claim, members, began=began)


def _send(
    context: ForwardContext, unit: Unit, claim: UnitClaim, members: list[Member], *, began: float
) -> Outcome:
    claim_id = claim.claim_id
    assert claim_id is not None
    assert claim.worker is not None
    destination = context.destination(claim.worker)  # it may have been removed just now
    lease = Lease(
        context,
        lambda session, seconds: units.renew(session, unit.unit_id, claim_id, lease=seconds),
        began=began,
    )
    sending = UnitSending(context, destination, lease)
    result = sending.send(members)
    settlement = _settlement(context, unit, result, sending)
    # If the process dies before this commit, the unit is sent again (G4).
    first = members[0].instance.instance_id
    # Without the settlement the worker would get the unit once more.
    settled = repeat_while_away(context, lambda: _settle(context, unit, claim, settlement, result, first))
    if settled:
        # If the process dies here, the sweep corrects the folders in the rows, and reconcile moves the files.
        _move(context, members)
    _log(unit, claim.worker, settlement, result, len(members), settled=settled)
    if not settlement.sent and not settlement.wait:
        context.wakeup.wake(Route.WORKERS)  # another worker may take it at once
    return result.outcome


def _settlement(
    context: ForwardContext, unit: Unit, result: SendResult, sending: UnitSending
) -> UnitSettlement:
    forwarder = context.configuration.forwarder
    application = forwarder.applications_in_force.get(unit.application)
    found = tuple(sending.outcomes.values())
    if result.outcome is Outcome.DELIVERED:
        refused = sum(one.error is not None for one in found)
        return UnitSettlement(
            sent=True,
            outcome=SENT,
            error=f"{refused} of {len(found)} instances were refused" if refused else None,
            last_began=sending.last_began,
            members=found,
            result_wait=timedelta() if application is None else application.result_timeout,
        )
    rule = RULES[result.outcome]
    reason = reason_to_give_up(
        rule,
        refusals=unit.failures,
        owed_for=unit.owed_for,
        limits=Limits(forwarder.max_retries, timedelta(hours=forwarder.give_up_after_hours)),
        error=result.error or "",
    )
    return UnitSettlement(
        sent=False,
        outcome=result.outcome.value,
        error=result.error if reason is None else reason,
        last_began=sending.last_began,
        members=found,
        give_up=reason is not None,
        counted=rule.counted,
        wait=_wait(context, unit, application, result),
    )


def _wait(
    context: ForwardContext, unit: Unit, application: ApplicationInForce | None, result: SendResult
) -> timedelta:
    """Return how long the unit waits: not at all while there may be a worker that has not failed."""
    forwarder = context.configuration.forwarder
    workers = 0 if application is None else len(application.workers)
    if result.outcome in {Outcome.AWAY, Outcome.TAKES_NOTHING} or unit.failures + 1 < workers:
        return timedelta()
    return delay(
        unit.failures + 1,
        timedelta(seconds=forwarder.backoff_base_seconds),
        timedelta(seconds=forwarder.backoff_max_seconds),
        random.random,
    )


def _settle(  # noqa: PLR0917  what was sent, and what came of it
    context: ForwardContext,
    unit: Unit,
    claim: UnitClaim,
    settlement: UnitSettlement,
    result: SendResult,
    first_instance_id: int,
) -> bool:
    """Settle the unit, and note the health of its worker."""
    assert claim.claim_id is not None
    assert claim.worker is not None
    forwarder = context.configuration.forwarder
    rule = RULES[result.outcome]
    with context.database.transaction() as session:
        settled = units.settle(session, unit.unit_id, claim.claim_id, settlement)
        if rule.peer is PeerHealth.WORKS:
            breakers.note_well(session, claim.worker, by_store=True)
        elif rule.peer is not PeerHealth.UNKNOWN:
            opened = breakers.note_failure(
                session,
                claim.worker,
                Route.WORKERS,
                instance_id=first_instance_id,
                reason=settlement.error or settlement.outcome,
                at_once=rule.peer is PeerHealth.AWAY,
                probe_by_store=rule.by_store,
                threshold=forwarder.breaker_failures,
                probe_wait=timedelta(seconds=forwarder.probe_interval_seconds),
                siblings_are_one=False,
            )
            if opened:
                log.write(
                    STAGE[Route.WORKERS],
                    "breaker_opened",
                    level="error",
                    destination=claim.worker,
                    error=settlement.error,
                )
    return settled


def _move(context: ForwardContext, members: list[Member]) -> None:
    """Write the new folders into the rows, a few at a time, and move the files there."""
    for start in range(0, len(members), FILES):
        ids = [one.instance.instance_id for one in members[start : start + FILES]]
        with suppress(GatewayError):  # safe to ignore: the sweep does it
            with context.database.transaction() as session:
                moved = mend_places(session, ids)
            with context.database.statement() as session:
                for instance_id in moved:
                    stored = instances.get(session, instance_id)
                    if stored is not None:
                        context.spool.move(stored.place, stored.study_instance_uid, stored.file_name)


def _log(
    unit: Unit, worker: str, settlement: UnitSettlement, result: SendResult, count: int, *, settled: bool
) -> None:
    log.write(
        Stage.FORWARD_WORKER,
        "fenced"
        if not settled
        else "unit_sent"
        if settlement.sent
        else "unit_dead"
        if settlement.give_up
        else "unit_not_sent",
        level="info" if settlement.sent else "error" if settlement.give_up else "warning",
        destination=worker,
        study_instance_uid=unit.study_instance_uid,
        count=count,
        duration_ms=result.duration_ms,
        error=settlement.error,
        detail=f"{unit.unit} {unit.uid}, generation {unit.generation}, of application {unit.application}",
    )
