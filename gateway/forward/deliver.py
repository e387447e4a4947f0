"""Deliver an instance to an archive or to a worker: claim its delivery, and make one attempt.

These are the entry points of the actors. A message only starts the work; the row of the delivery says what is
to be done. If the delivery is settled, or claimed by another process, nothing is done. The consumer of the
messages may have claimed the delivery already, together with the message.

If the process dies
    before the claim   another process runs the message
    after the claim    see `gateway.forward.attempt`
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from gateway import log
from gateway.config.destination import Destination, StorageDestination
from gateway.config.forwarder import ApplicationInForce
from gateway.database.tables import deliveries
from gateway.database.tables.deliveries import DeliveryClaim, WorkerVerdict
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route
from gateway.forward.attempt import Attempt, AttemptResult, move
from gateway.forward.context import ForwardContext
from gateway.forward.rate import wait_for_slot
from gateway.forward.turns import Sending
from gateway.log import Stage

NO_WORKER_SECONDS = 0.1
"""How long a delivery waits if all workers are busy. This is rare: the queue claims no messages then."""
BOUND_SECONDS = 1.0
"""The same for a delivery whose study is bound to one worker: others may be free, so the queue claims it."""


NO_APPLICATION = ApplicationInForce(
    name="",
    unit="instance",
    result_timeout_seconds=1,
    max_outstanding=1,
    affinity="instance",
    max_redispatch=0,
    workers=(),
)
"""For a delivery whose application is not configured any more: it has no worker, so it stays pending."""


@dataclass(frozen=True, slots=True)
class ClaimedBefore:
    """A delivery that was claimed together with its message, at a monotonic time after `began`."""

    claim: DeliveryClaim
    began: float


TakeClaim = Callable[[str | None], ClaimedBefore | None]
"""Returns the delivery that was claimed with the message of this thread, once.

It must have been claimed for that destination; None: for any.
"""


def _none(_destination: str | None) -> None:
    return None


def forward_to_pacs(
    context: ForwardContext, delivery_id: int, *, probing: bool = False, take: TakeClaim = _none
) -> Outcome | None:
    """Make one attempt at the PACS; see `_forward`."""
    destination = context.configuration.forwarder.orthanc
    return _forward(context, delivery_id, Route.PACS, destination, probing=probing, take=take)


def forward_to_archive(
    context: ForwardContext,
    delivery_id: int,
    *,
    probing: bool = False,
    target: str | None = None,
    take: TakeClaim = _none,
) -> Outcome | None:
    """Make one attempt at the archive to which the delivery is owed; see `_forward`.

    `target` is the AE title of that archive if the caller knows it. If the archive is not configured any
    more, the delivery stays pending, and the queue claims no other message of it.
    """
    title = target
    if title is None:
        with context.database.statement() as session:
            title = deliveries.target_of(session, delivery_id)
    for archive in context.configuration.forwarder.archives:
        if archive.ae_title == title:
            return _forward(context, delivery_id, Route.ARCHIVES, archive, probing=probing, take=take)
    return None


def _forward(
    context: ForwardContext,
    delivery_id: int,
    route: Route,
    destination: StorageDestination,
    *,
    probing: bool,
    take: TakeClaim,
) -> Outcome | None:
    """Make one attempt at an archive; return its outcome.

    Return None if there is nothing to do, and CROWDED if it was parked, because others are sent first.
    `probing` means that the breaker of the archive is open, and this instance tests whether it is back.
    """
    outcome = None
    context.require_spool()  # if the disk is not mounted, nothing is sent, and the message comes again
    if not probing:
        wait_for_slot(context, destination)
    while True:
        claimed = take(destination.ae_title) or _claim(context, delivery_id, destination)
        if claimed is None:
            return outcome
        result = _attempt_in_turn(
            context, claimed.claim, route, destination, began=claimed.began, probing=probing
        )
        outcome = result.outcome
        if result.settled:
            return outcome
        # The claim was lost before the attempt was settled. If another process has the delivery, the next
        # claim finds nothing. A crash of PostgreSQL may have undone the claim: then the delivery is pending,
        # and only this message can start it. The message ends when this function returns, so claim again.


def _claim(context: ForwardContext, delivery_id: int, destination: Destination) -> ClaimedBefore | None:
    context.require_spool()
    began = time.monotonic()
    # Not durable: a crash of PostgreSQL may undo the claim, and the archive then gets it twice (G4).
    with context.database.statement(durable=False) as session:
        claim = deliveries.claim(
            session,
            delivery_id,
            consumer=context.consumer(),
            lease=timedelta(seconds=context.configuration.forwarder.lease_seconds),
            destination=destination.ae_title,
        )
    return None if claim is None else ClaimedBefore(claim, began)


def _attempt_in_turn(
    context: ForwardContext,
    claim: DeliveryClaim,
    route: Route,
    destination: Destination,
    *,
    began: float,
    probing: bool,
) -> AttemptResult:
    """Make the attempt if it is the turn of this instance, else park it (`gateway.forward.turns`)."""
    most = context.configuration.forwarder.max_associations_per_peer
    with context.turns.take(context.database, claim, most=most) as turn:
        if isinstance(turn, Sending):
            result = Attempt(
                context, claim, route, destination, began=began, sending=turn, probing=probing
            ).run()
    # Wake parked instances only after the turn has ended. In the database it ended when the delivery was
    # settled or parked; in this process it ended with the block above.
    if isinstance(turn, Sending):
        woken = context.turns.note_outcome(context.database, claim, turn, result.outcome)
    else:
        result = AttemptResult(Outcome.CROWDED, turn.settled)
        move(context, claim, turn)
        woken = context.turns.note_parked(context.database, claim)
    if woken:
        context.wakeup.wake(route)
    return result


def forward_to_worker(
    context: ForwardContext, delivery_id: int, *, take: TakeClaim = _none
) -> Outcome | None:
    """Make one attempt at the worker that the database chooses; return its outcome.

    Return None if there is nothing to do, or no worker is free.
    """
    context.require_spool()
    outcome = None
    while True:
        claimed = take(None) or _claim_for_worker(context, delivery_id)
        if claimed is None:
            return outcome
        destination = context.destination(claimed.claim.destination)
        result = Attempt(context, claimed.claim, Route.WORKERS, destination, began=claimed.began).run()
        outcome = result.outcome
        if result.settled:
            return outcome
        # The claim was lost before the attempt was settled: see `_forward`.


def _claim_for_worker(context: ForwardContext, delivery_id: int) -> ClaimedBefore | None:
    """Claim a delivery for the worker that the database chooses; return None if there is nothing to send.

    All processes choose workers one after the other, so the statement must be short. It does not wait for the
    disk. If a crash of PostgreSQL undoes it, the instance is sent to a worker again (G4). The result of the
    first one is then linked to its source, and no result is expected for it.
    """
    forwarder = context.configuration.forwarder
    application = _application(context, delivery_id)
    by_study = application.affinity == "study"
    began = time.monotonic()
    with context.database.statement(durable=False) as session:
        verdict, claim = deliveries.claim_for_worker(
            session,
            delivery_id,
            consumer=context.consumer(),
            lease=timedelta(seconds=forwarder.lease_seconds),
            result_wait=application.result_timeout,
            by_study=by_study,
            wait=timedelta(seconds=BOUND_SECONDS if by_study else NO_WORKER_SECONDS),
        )
    if by_study:
        # The claim may have made other deliveries of the study due (migrations/0007_bound_studies.sql).
        context.wakeup.wake(Route.WORKERS)
    if verdict is WorkerVerdict.ANSWERED:
        log.write(Stage.FORWARD_WORKER, "answered_before", delivery_id=delivery_id)
    return None if claim is None else ClaimedBefore(claim, began)


def _application(context: ForwardContext, delivery_id: int) -> ApplicationInForce:
    """Return the application to which the delivery is owed.

    If there is only one, it need not be looked up: a delivery of another one finds no worker in any case.
    """
    applications = context.configuration.forwarder.applications_in_force
    name = next(iter(applications), None)
    if len(applications) > 1:
        with context.database.statement() as session:
            name = deliveries.target_of(session, delivery_id)
    return applications.get(name or "") or NO_APPLICATION
