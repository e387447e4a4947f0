"""Versions of one SOP Instance UID under any order of receptions, claims, deaths, settles and commands.

`support.version_attempts` has the receptions and the attempts. Reconcile does not run here, so the end of a
test finds a delivery whose wake-up was missed.
"""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from conftest import MakeEdge
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test
from support.edge_setup import EdgeSetup
from support.version_attempts import ALIVE, DUE, LEASE, TAKE, Held, VersionAttempts

from gateway.database.queries import Query
from gateway.database.session import Session
from gateway.database.tables import breakers, destinations, selected_deliveries, turns
from gateway.database.tables.selected_deliveries import Selection
from gateway.database.tables.turns import Turn
from gateway.domain.delivery import State
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route
from gateway.lab import layout

_BURY = Query(
    "bury",
    "UPDATE dramatiq.queue q SET state = 'rejected', reason = 'three deaths' FROM deliveries d"
    " JOIN instances i ON i.id = d.instance_id WHERE q.delivery_id = d.id AND i.sop_instance_uid = %(uid)s"
    " AND d.instance_id = %(instance)s AND q.state = 'queued'",
)
_TOOK = Query("took", "DELETE FROM suspects WHERE study_instance_uid = %(study)s")
_OPEN = Query("open", "UPDATE destinations SET breaker = 'open' WHERE ae_title = 'ORTHANC'")
_DISCARD = Query("discard", "DELETE FROM dramatiq.queue WHERE state = 'rejected'")
_FOUND = Query(
    "found",
    "SELECT d.id, d.instance_id, d.state::text, coalesce(d.owed_order, d.id)"
    " FROM deliveries d JOIN instances i ON i.id = d.instance_id"
    " WHERE i.sop_instance_uid = %(uid)s ORDER BY d.id",
)


class Versions(VersionAttempts):
    """The versions of one UID, with everything that may happen to their deliveries."""

    # ---- suspects and probes, of the PACS ----------------------------------------------------------

    @precondition(lambda self: self.route is Route.PACS)
    @rule(which=st.integers(0, 9), broken=st.booleans())
    def take_turn(self, which: int, broken: bool) -> None:  # noqa: FBT001
        """Ask for the turn of an attempt, which may be a suspect by now; park it if it has to wait."""
        if not self.held:
            return
        held = self.held[which % len(self.held)]
        with self.edge.database.transaction() as session:
            if broken:
                turns.note_broken(session, held.claim, "ORTHANC")
            turn, _ = turns.take(session, held.claim, "ORTHANC")
            if turn is Turn.WAIT and not held.arrived:
                self.held.remove(held)
                self._park(session, held)

    @precondition(lambda self: self.route is Route.PACS)
    @rule(which=st.integers(0, 9))
    def park(self, which: int) -> None:
        """Return an attempt unsent, as if a sibling got no answer."""
        waiting = [held for held in self.held if not held.arrived]
        if waiting:
            held = waiting[which % len(waiting)]
            self.held.remove(held)
            with self.edge.database.transaction() as session:
                self._park(session, held)

    def _park(self, session: Session, held: Held) -> None:
        turns.park(session, held.claim, "ORTHANC", reason="waits", wait=LEASE)

    @precondition(lambda self: self.route is Route.PACS)
    @rule(taken=st.booleans())
    def call(self, taken: bool) -> None:  # noqa: FBT001
        """Wake parked deliveries; if the PACS took an instance, no study is suspect any more."""
        with self.edge.database.transaction() as session:
            if taken:
                session.run(_TOOK, study=self.study)
            turns.call(session, "ORTHANC", most=16)

    @precondition(lambda self: self.route is Route.PACS)
    @rule()
    def probe(self) -> None:
        """Open the breaker of the PACS, and probe with the first delivery that can be claimed."""
        with self.edge.database.statement() as session:
            session.run(_OPEN)
            chosen = breakers.choose_probes(session, "ORTHANC")
        for delivery_id in chosen:
            with self.edge.database.statement() as session:
                begun = breakers.begin_probe(session, "ORTHANC", delivery_id)
            if begun and self._claim(delivery_id) is not None:
                return

    # ---- operators -------------------------------------------------------------------------------

    @rule(which=st.integers(0, 9))
    def cancel(self, which: int) -> None:
        """Cancel one delivery, where its state allows."""
        with self.edge.database.transaction() as session:
            selected_deliveries.cancel(session, self._selection(session, which), by="operator")

    @rule(which=st.integers(0, 9), delivered=st.booleans())
    def requeue(self, which: int, delivered: bool) -> None:  # noqa: FBT001
        """Retry or resend one delivery."""
        states = (State.DEAD, State.CANCELLED, *((State.DELIVERED,) if delivered else ()))
        with self.edge.database.transaction() as session:
            selected_deliveries.requeue(session, self._selection(session, which), of=states)

    @rule()
    def resend_study(self) -> None:
        """Send everything again."""
        with self.edge.database.transaction() as session:
            states = (State.DEAD, State.CANCELLED, State.DELIVERED)
            selected_deliveries.requeue(session, Selection(study=self.study), of=states)

    @rule(number=st.integers(0, 3))
    def bury(self, number: int) -> None:
        """Make the messages of a version dead, and its deliveries with them."""
        with self.edge.database.statement() as session:
            session.run(_BURY, uid=self.uid, instance=self.contents[number % len(self.contents)])

    def _selection(self, session: Session, which: int) -> Selection:
        found = session.all(_FOUND, uid=self.uid)
        return Selection(delivery_id=found[which % len(found)][0])

    @rule(which=st.integers(0, 9))
    def hurry(self, which: int) -> None:
        """End the wait of one delivery, as an operator's retry does."""
        with self.edge.database.transaction() as session:
            selected_deliveries.retry_now(session, self._selection(session, which))

    @rule()
    def discard(self) -> None:
        """Delete dead messages, as an operator does."""
        with self.edge.database.statement() as session:
            session.run(_DISCARD)

    # ---- what holds ------------------------------------------------------------------------------

    def _found(self) -> list[tuple[Any, ...]]:
        with self.edge.database.statement() as session:
            return session.all(_FOUND, uid=self.uid)

    @invariant()
    def one_at_a_time(self) -> None:
        """At most one version is in flight on a route."""
        if not hasattr(self, "contents"):
            return
        assert sum(row[2] == State.IN_FLIGHT for row in self._found()) <= 1

    def teardown(self) -> None:
        """Let every process end and the queue run empty; check that no peer ends with an older version."""
        if not hasattr(self, "contents"):
            return
        for held in list(self.held):
            self.held.remove(held)
            self._settle(held, State.DELIVERED, Outcome.DELIVERED, arrived=True)
        self.rescue()
        for _ in range(200):
            with self.edge.database.statement() as session:
                row = session.one(TAKE, uid=self.uid, skip=0)
                session.run(DUE, uid=self.uid)
            if row is None:
                break
            if (claimed := self._claim(row[0])) is not None:
                self.held.remove(claimed)
                self._settle(claimed, State.DELIVERED, Outcome.DELIVERED, arrived=True)
        else:
            raise AssertionError("the queue never runs empty")
        rows = self._found()
        assert not [row for row in rows if row[2] in {State.PENDING, State.IN_FLIGHT}], rows
        by_row = [row[1] for row in sorted(rows, key=lambda row: int(row[3]))]
        assert by_row == sorted(self.ranks, key=self.ranks.__getitem__), "the order of the receptions"
        delivered = [self.ranks[row[1]] for row in rows if row[2] == State.DELIVERED]
        if delivered:
            assert self.ranks[self.arrivals[-1]] >= max(delivered), (self.arrivals, self.ranks, rows)


@pytest.fixture
def edge(make_edge: MakeEdge) -> Iterator[EdgeSetup]:
    """Yield a migrated database with one live consumer, whose workers have free capacity."""
    [port] = layout.free_ports(1)
    archive = {"ae_title": "VNA", "host": layout.LOOPBACK, "port": port}
    edge = make_edge({"forwarder": {"worker_max_outstanding": 10_000, "archives": [archive]}})
    with edge.database.transaction() as session:
        destinations.configure(session, edge.configuration)
    with closing(psycopg2.connect(edge.dsn)) as lock:
        lock.cursor().execute("SELECT pg_advisory_lock(%s)", (ALIVE,))
        yield edge


@pytest.mark.guarantee("G4")
def test_no_peer_ends_with_an_older_version(edge: EdgeSetup) -> None:
    """This holds for any order of actions by processes, peers and operators."""

    class Bound(Versions):
        pass

    Bound.edge = edge
    run_state_machine_as_test(
        Bound,
        settings=settings(
            max_examples=100,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
