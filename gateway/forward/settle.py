"""Record the outcome of an attempt in its delivery, and in the circuit breaker of its peer.

If the process dies
    before the commit   the delivery stays in flight. Another process gets its message within 4 s and claims
                        it. The peer gets the instance twice, which is harmless (G4)
    after the commit    the message runs again and finds nothing to do

If PostgreSQL crashes, or the power fails
    A settle to `delivered` does not wait for the disk: it is durable with the next durable commit, or within
    0.6 s (three times wal_writer_delay). If a crash undoes it, the row of the delivery is in flight or
    pending again. Its message is in the queue again, because PostgreSQL writes its log in order. The message
    runs again, and the peer gets the instance twice.
    Nothing is deleted because of a settle that could be lost: see `gateway.sweep.purge`. All other outcomes
    are durable at once.
"""

import random
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from gateway import log
from gateway.config.forwarder import Forwarder
from gateway.database.session import Session
from gateway.database.tables import breakers, deliveries
from gateway.database.tables.deliveries import DeliveryClaim, Settled, Settlement
from gateway.domain.backoff import delay
from gateway.domain.delivery import Event, State
from gateway.domain.outcome import Decision, Outcome, PeerHealth
from gateway.domain.routing import BEHIND, Route
from gateway.errors import DatabaseError, DatabaseRefusedError, DatabaseUnavailableError
from gateway.forward.context import STAGE, ForwardContext
from gateway.forward.send_result import SendResult
from gateway.log import Stage

T = TypeVar("T")

CROWDED_SECONDS = 2.0
"""How long a delivery waits after all associations to its peer stayed in use."""

FIRST_RETRY_SECONDS = 0.1
MAX_RETRY_SECONDS = 2.0
"""Between tries to settle while PostgreSQL is away."""

_STATE_AFTER = {Event.DELIVER: State.DELIVERED, Event.RETRY: State.PENDING, Event.DIE: State.DEAD}


def settlement_of(
    forwarder: Forwarder, claim: DeliveryClaim, result: SendResult, decision: Decision
) -> Settlement:
    """Return the columns to write for a decision: the new state, and how long the delivery waits."""
    return Settlement(
        state=_STATE_AFTER[decision.event],
        counted=decision.counted,
        refused=decision.refused,
        outcome=result.outcome,
        destination=claim.destination,
        status=result.status,
        error=decision.reason or None,
        duration_ms=result.duration_ms,
        wait=_wait(forwarder, claim, result, decision),
        priority=BEHIND if decision.behind else None,
        result_wait=_result_wait(forwarder, claim),
    )


def _result_wait(forwarder: Forwarder, claim: DeliveryClaim) -> timedelta:
    """Return how long a worker may take for its result; only the route to the workers uses it."""
    application = forwarder.applications_in_force.get(claim.target)
    return timedelta() if application is None else application.result_timeout


def _wait(forwarder: Forwarder, claim: DeliveryClaim, result: SendResult, decision: Decision) -> timedelta:
    if result.outcome is Outcome.CROWDED:
        return timedelta(seconds=CROWDED_SECONDS)
    if decision.event is Event.RETRY and decision.counted:
        return delay(
            claim.attempts + 1,
            timedelta(seconds=forwarder.backoff_base_seconds),
            timedelta(seconds=forwarder.backoff_max_seconds),
            random.random,
        )
    # An attempt at a peer that is away is not counted, and the message is due at once. The peer's breaker is
    # open now, and the queue holds the message back until it closes.
    return timedelta()


def settle(
    context: ForwardContext, claim: DeliveryClaim, route: Route, settlement: Settlement, decision: Decision
) -> tuple[Settled, bool]:
    """Settle a delivery; return the result, and whether it closed the breaker of the peer.

    A plain success takes another path in actor processes: `gateway.forward.settle_together`. Try again for
    half a lease while PostgreSQL is away. The peer has answered already; without the settlement
    it would get the instance once more.

    Raises:
        DatabaseError: PostgreSQL refuses the statement, or is still away half a lease after the first try.
            The message then runs again, and the peer gets the instance twice (G4).
    """

    def once() -> tuple[Settled, bool]:
        if decision.peer in {PeerHealth.WORKS, PeerHealth.UNKNOWN}:
            return settle_once(context, claim, route, settlement, is_well=decision.peer is PeerHealth.WORKS)
        return _settle_with_failure(context, claim, route, settlement, decision), False

    def note(error: DatabaseError) -> None:
        log.write(Stage.DB, "settle_waits", level="warning", error=str(error), delivery_id=claim.delivery_id)

    return repeat_while_away(context, once, note=note)


def repeat_while_away(
    context: ForwardContext, write: Callable[[], T], *, note: Callable[[DatabaseError], None] | None = None
) -> T:
    """Call `write` again while PostgreSQL is away or the transaction collides, for half a lease at most.

    `note` gets each error after which it is called again.

    Raises:
        DatabaseError: that of the last call.
    """
    limit = time.monotonic() + context.configuration.forwarder.lease_seconds / 2
    wait = FIRST_RETRY_SECONDS
    while True:
        try:
            return write()
        except (DatabaseUnavailableError, DatabaseRefusedError) as error:
            collided = isinstance(error, DatabaseRefusedError) and error.is_collision
            if time.monotonic() > limit or not (collided or isinstance(error, DatabaseUnavailableError)):
                raise
            if note is not None:
                note(error)
            time.sleep(wait)
            wait = min(wait * 2, MAX_RETRY_SECONDS)


def settle_once(
    context: ForwardContext, claim: DeliveryClaim, route: Route, settlement: Settlement, *, is_well: bool
) -> tuple[Settled, bool]:
    """Settle; if the peer is well and had failed before, end its failures."""
    with context.database.statement(durable=settlement.state is not State.DELIVERED) as session:
        settled = deliveries.settle(session, claim, route, settlement)
        closed = is_well and settled.peer_had_failed and end_failures(session, route, settlement)
    return settled, closed


def end_failures(session: Session, route: Route, settlement: Settlement) -> bool:
    """End the failures of a peer that is well; tell whether that closed its breaker."""
    # Without a status the peer answered no C-STORE: it declined the context, for example.
    by_store = settlement.status is not None
    closed = breakers.note_well(session, settlement.destination, by_store=by_store)
    if closed:
        log.write(STAGE[route], "breaker_closed", destination=settlement.destination)
    return closed


def _settle_with_failure(
    context: ForwardContext, claim: DeliveryClaim, route: Route, settlement: Settlement, decision: Decision
) -> Settled:
    """Settle, and count a failure of the peer, which may open its breaker."""
    forwarder = context.configuration.forwarder
    # Use one transaction, so that no breaker opens without the message of its first probe.
    with context.database.transaction() as session:
        settled = deliveries.settle(session, claim, route, settlement)
        opened = breakers.note_failure(
            session,
            settlement.destination,
            route,
            instance_id=claim.instance.instance_id,
            reason=settlement.error or settlement.outcome.value,
            at_once=decision.peer is PeerHealth.AWAY,
            probe_by_store=decision.by_store,
            threshold=forwarder.breaker_failures,
            probe_wait=timedelta(seconds=forwarder.probe_interval_seconds),
            siblings_are_one=route.is_archive and settlement.outcome is Outcome.BROKEN,
        )
    if opened:
        log.write(
            STAGE[route],
            "breaker_opened",
            level="error",
            destination=settlement.destination,
            error=settlement.error,
        )
    return settled
