"""Versions of one SOP Instance UID as a state machine: their receptions, and the attempts to deliver them.

It works on a real PostgreSQL, and takes messages from the queue as consumers do. The test adds what suspects,
probes and operators do.
"""

import hashlib
import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from gateway.database.queries import Query
from gateway.database.session import Session
from gateway.database.tables import deliveries, instances, sweeps
from gateway.database.tables.deliveries import DeliveryClaim, Settlement, WorkerVerdict
from gateway.database.tables.instances import ReceivedInstance, ReceptionVerdict
from gateway.domain.contract import FORWARD
from gateway.domain.delivery import State
from gateway.domain.instance import Kind
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route, Target
from support.edge_setup import EdgeSetup
from support.synthetic_instances import new_uid

LEASE = timedelta(minutes=5)
ALIVE, DEAD = 4_711, 4_712
"""Consumers; only the lock of the first is held."""
WINDOW = timedelta(hours=1)

TAKE = Query(
    "take",
    "DELETE FROM dramatiq.queue q USING deliveries d JOIN instances i ON i.id = d.instance_id"
    " WHERE q.delivery_id = d.id AND i.sop_instance_uid = %(uid)s AND q.state = 'queued'"
    " AND q.message_id = (SELECT m.message_id FROM dramatiq.queue m JOIN deliveries x ON x.id = m.delivery_id"
    "   JOIN instances y ON y.id = x.instance_id WHERE y.sop_instance_uid = %(uid)s AND m.state = 'queued'"
    "   ORDER BY m.delivery_id, m.message_id OFFSET %(skip)s LIMIT 1)"
    " RETURNING d.id",
)
_OWE_LAST = Query(
    "owe_last",
    "SELECT owe_delivery_last(d.id, %(actor)s, 4, now() + interval '1 hour') FROM deliveries d"
    " WHERE d.instance_id = %(instance_id)s AND d.route = %(route)s::route",
)  # the function that a repeat calls
DUE = Query(
    "due",
    "UPDATE deliveries d SET next_attempt_at = now() FROM instances i"
    " WHERE i.id = d.instance_id AND i.sop_instance_uid = %(uid)s AND d.state = 'pending'",
)
_OVER = Query("over", "UPDATE deliveries SET lease_until = now() - interval '1 s' WHERE claim_id = %(claim)s")
_DIE = Query("die", "UPDATE deliveries SET claimed_by = %(dead)s WHERE claim_id = %(claim)s")


@dataclass
class Held:
    """A running attempt; `lost` if another process may have its claim by now."""

    claim: DeliveryClaim
    lost: bool = False
    arrived: bool = False


class VersionAttempts(RuleBasedStateMachine):
    """The versions of one UID on one route; `edge` is set by the test."""

    edge: EdgeSetup

    @initialize(route=st.sampled_from(Route))
    def two_versions(self, route: Route) -> None:
        """Begin with two versions that have a delivery on one route."""
        self.route = route
        self.uid, self.study = new_uid(), new_uid()
        self.numbers = itertools.count(1)
        self.ranks: dict[int, int] = {}
        self.contents: list[int] = []
        self.held: list[Held] = []
        self.arrivals: list[int] = []
        """The versions that came to the peers of the route, in this order."""
        self.receive_version()
        self.receive_version()

    # ---- receptions ------------------------------------------------------------------------------

    @precondition(lambda self: len(self.contents) < 4)
    @rule()
    def receive_version(self) -> None:
        """Receive other bytes under the UID."""
        number = len(self.contents)
        instance_id, verdict = self._receive(number)
        assert verdict is (ReceptionVerdict.CONFLICT if number else ReceptionVerdict.STORED)
        self.contents.append(instance_id)
        self.ranks[instance_id] = next(self.numbers)

    @rule(number=st.integers(0, 3))
    def repeat(self, number: int) -> None:
        """Receive a version again; if it was not the newest, it is the newest from now on."""
        number %= len(self.contents)
        instance_id, _ = self._receive(number)
        if self.ranks[instance_id] != max(self.ranks.values()):
            self.ranks[instance_id] = next(self.numbers)

    def _receive(self, number: int) -> tuple[int, ReceptionVerdict]:
        content = f"{self.uid} {number}".encode()
        received = ReceivedInstance(
            reception_id=uuid4(),
            received_at=datetime.now(UTC),
            sop_instance_uid=self.uid,
            study_instance_uid=self.study,
            series_instance_uid="1.2.3",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.7",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            sha256=hashlib.sha256(content).digest(),
            data_set_size=len(content),
            calling_ae_title="CT1",
            called_ae_title="MINI_EDGE",
            remote_address="127.0.0.1",
            kind=Kind.ORIGINAL,
            file_name=f"{self.uid}.{number}.dcm",
            targets=(self._target(),),
            priority=4,
        )
        with self.edge.database.transaction() as session:
            if number < len(self.contents):
                session.one(
                    _OWE_LAST,
                    instance_id=self.contents[number],
                    route=self.route.value,
                    actor=FORWARD[self.route].actor_name,
                )
            kept = instances.register(session, received, window=WINDOW)
        return kept.instance_id, kept.verdict

    def _target(self) -> Target:
        return next(t for t in self.edge.configuration.forwarder.targets.all if t.route is self.route)

    # ---- consumers -------------------------------------------------------------------------------

    @rule(skip=st.integers(0, 3))
    def consume(self, skip: int) -> None:
        """Take a message and claim its delivery; the message is gone even if the claim fails."""
        with self.edge.database.statement() as session:
            row = session.one(TAKE, uid=self.uid, skip=skip) or session.one(TAKE, uid=self.uid, skip=0)
            session.run(DUE, uid=self.uid)
        if row is not None:
            self._claim(row[0])

    @rule()
    def deliver(self) -> None:
        """Take a message and deliver, the most frequent case."""
        self.consume(0)
        if self.held and not self.held[-1].lost:
            self._settle(self.held.pop(), State.DELIVERED, Outcome.DELIVERED, arrived=True)

    def _claim(self, delivery_id: int) -> Held | None:
        with self.edge.database.transaction() as session:
            if self.route.is_archive:
                claim = deliveries.claim(
                    session, delivery_id, consumer=ALIVE, lease=LEASE, destination=self._target().name
                )
            else:
                verdict, claim = deliveries.claim_for_worker(
                    session,
                    delivery_id,
                    consumer=ALIVE,
                    lease=LEASE,
                    result_wait=LEASE,
                    by_study=False,
                    wait=timedelta(0),
                )
                assert verdict is not WorkerVerdict.NO_WORKER
        if claim is None:
            return None
        held = Held(claim)
        self.held.append(held)
        return held

    @rule(
        which=st.integers(0, 9),
        ending=st.sampled_from(
            [
                (State.DELIVERED, Outcome.DELIVERED, True),
                (State.DELIVERED, Outcome.DELIVERED, True),
                (State.PENDING, Outcome.NOT_NOW, False),
                (State.PENDING, Outcome.BROKEN, False),
                (State.PENDING, Outcome.BROKEN, True),
                (State.PENDING, Outcome.AWAY, False),
                (State.DEAD, Outcome.REFUSED, False),
                (State.DEAD, Outcome.BROKEN, True),
            ]
        ),
    )
    def settle(self, which: int, ending: tuple[State, Outcome, bool]) -> None:
        """End an attempt; the bytes may have arrived or not."""
        if self.held:
            self._settle(self.held.pop(which % len(self.held)), *ending)

    def _settle(self, held: Held, state: State, outcome: Outcome, arrived: bool) -> None:  # noqa: FBT001
        if held.arrived and not arrived:
            state, outcome = State.PENDING, Outcome.BROKEN
        if arrived:
            self._arrive(held)
        settlement = Settlement(
            state,
            counted=outcome is not Outcome.AWAY,
            refused=False,
            outcome=outcome,
            destination=held.claim.destination,
            status=None,
            error=None,
            duration_ms=1.0,
            result_wait=LEASE,
        )
        with self.edge.database.transaction() as session:
            deliveries.settle(session, held.claim, self.route, settlement)

    def _arrive(self, held: Held) -> None:
        held.arrived = True
        self.arrivals.append(held.claim.instance.instance_id)

    @rule(which=st.integers(0, 9), arrived=st.booleans())
    def crash(self, which: int, arrived: bool) -> None:  # noqa: FBT001
        """Kill the process of an attempt, before or after the bytes arrived; its message is released."""
        if not self.held:
            return
        held = self.held.pop(which % len(self.held))
        if arrived and not held.lost:
            self._arrive(held)
        with self.edge.database.transaction() as session:
            if session.run(_DIE, claim=held.claim.claim_id, dead=DEAD):
                self._send(session, held.claim.delivery_id)

    @rule(which=st.integers(0, 9))
    def freeze(self, which: int) -> None:
        """Stop a process for longer than its lease; it continues when `settle` selects it."""
        living = [held for held in self.held if not held.lost]
        if not living:
            return
        held = living[which % len(living)]
        held.lost = True
        with self.edge.database.statement() as session:
            session.run(_OVER, claim=held.claim.claim_id)

    @rule()
    def rescue(self) -> None:
        """Run the sweep's rescue for expired claims."""
        with self.edge.database.transaction() as session:
            sweeps.rescue(session, limit=100)

    def _send(self, session: Session, delivery_id: int) -> None:
        session.one(
            Query("send", "SELECT dramatiq.send(%(q)s, %(a)s, jsonb_build_array(%(i)s), 4, now(), %(i)s)"),
            q=self._target().queue,
            a=FORWARD[self.route].actor_name,
            i=delivery_id,
        )
