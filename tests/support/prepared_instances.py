"""Instances with rows and files, brought by the product's statements to the state that a test needs."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from gateway.config import Configuration
from gateway.correlate import Correlated, Result, correlate
from gateway.database.pool import Database
from gateway.database.queries import Query
from gateway.database.session import Row
from gateway.database.tables import deliveries, destinations, instances
from gateway.database.tables.deliveries import DeliveryClaim, Settlement
from gateway.database.tables.instances import ReceivedInstance
from gateway.domain.delivery import State
from gateway.domain.instance import Kind, Place
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route
from gateway.spool.identity import SpoolIdentity
from gateway.spool.spool import Spool

STUDY = "1.2.3"
LEASE = timedelta(minutes=5)


class PreparedInstances:
    """One database and spool; each method is one step of the flow."""

    def __init__(self, dsn: str, configuration: Configuration) -> None:
        self.configuration = configuration
        self.database = Database(dsn, application_name="test", size=2)
        self.spool = Spool(configuration.edge.data_root)
        self.spool.prepare()
        self.identity = SpoolIdentity(configuration.edge.data_root)
        self.identity.recognize(self.database)
        with self.database.transaction() as session:
            destinations.configure(session, configuration)

    def receive(
        self, number: int, *, study: str = STUDY, kind: Kind = Kind.ORIGINAL, sender: str = "ORTHANC"
    ) -> int:
        """Keep an instance `study`.`number` with its file; return its id."""
        content = f"{study} {number} {kind}".encode()
        name = f"{study}.{number}.dcm"
        path = self.spool.path(Place.INCOMING, study, name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        forwarder = self.configuration.forwarder
        received = ReceivedInstance(
            reception_id=uuid4(),
            received_at=datetime.now(UTC),
            sop_instance_uid=f"{study}.{number}",
            study_instance_uid=study,
            series_instance_uid=f"{study}.0",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.7",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            sha256=hashlib.sha256(content).digest(),
            data_set_size=len(content),
            calling_ae_title=sender,
            called_ae_title="MINI_EDGE",
            remote_address="127.0.0.1",
            kind=kind,
            file_name=name,
            targets=forwarder.targets.of(kind, forwarder.mode),
            priority=4,
        )
        with self.database.transaction() as session:
            return instances.register(session, received, window=timedelta(minutes=10)).instance_id

    def result(self, number: int, source: int, *, worker: str) -> tuple[int, Correlated]:
        """Keep a result of `worker` that references STUDY.`source`; return its id and its match."""
        instance_id = self.receive(number, kind=Kind.RESULT, sender=worker)
        result = Result(instance_id, [worker], f"{STUDY}.{number}", STUDY, [f"{STUDY}.{source}"])
        with self.database.transaction() as session:
            [correlated] = correlate(session, [result])
            return instance_id, correlated

    def delivery(self, instance_id: int, route: Route) -> int:
        """Return the id of the instance's delivery to that destination."""
        return int(self.value("SELECT id FROM deliveries WHERE instance_id = %(i)s AND route = %(r)s::route",
                              i=instance_id, r=route.value))  # fmt: skip

    def claim(self, delivery_id: int) -> DeliveryClaim:
        """Claim that delivery to the PACS: it is in flight."""
        with self.database.transaction() as session:
            claim = deliveries.claim(session, delivery_id, consumer=1, lease=LEASE, destination="ORTHANC")
        assert claim is not None
        return claim

    def claim_for_worker(self, delivery_id: int) -> DeliveryClaim:
        """Claim that delivery for the next worker: it is in flight."""
        with self.database.transaction() as session:
            _, claim = deliveries.claim_for_worker(
                session,
                delivery_id,
                consumer=1,
                lease=LEASE,
                result_wait=timedelta(seconds=10),
                by_study=False,
                wait=timedelta(seconds=1),
            )
        assert claim is not None
        return claim

    def settle(
        self,
        claim: DeliveryClaim,
        route: Route,
        state: State,
        *,
        outcome: Outcome = Outcome.DELIVERED,
        status: int | None = 0,
        error: str | None = None,
        wait: timedelta = timedelta(hours=1),
    ) -> None:
        """Settle the attempt with that outcome, and move the file to the folder that its row names."""
        settlement = Settlement(
            state,
            counted=True,
            refused=False,
            outcome=outcome,
            destination=claim.destination,
            status=status,
            error=error,
            duration_ms=12.0,
            wait=wait,
            result_wait=timedelta(seconds=10),
        )
        with self.database.transaction() as session:
            settled = deliveries.settle(session, claim, route, settlement)
        if settled.place_after is not None:
            self.spool.move(settled.place_after, claim.instance.study_instance_uid, claim.instance.file_name)

    def forward(self, instance_id: int, state: State = State.DELIVERED, **settlement: object) -> int:
        """Make one attempt at the PACS; return the delivery's id."""
        delivery_id = self.delivery(instance_id, Route.PACS)
        self.settle(self.claim(delivery_id), Route.PACS, state, **settlement)  # type: ignore[arg-type]
        return delivery_id

    def rows(self, sql: str, **parameters: object) -> list[Row]:
        """Return the rows of a query."""
        with self.database.statement() as session:
            return session.all(Query("test", sql), **parameters)

    def value(self, sql: str, **parameters: object) -> Any:
        """Return the only value of a query."""
        [[value]] = self.rows(sql, **parameters)
        return value

    def run(self, sql: str) -> None:
        """Run a statement."""
        with self.database.statement() as session:
            session.script(sql)
