"""The core without its processes: instances in spool and database, delivered by this process."""

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import psycopg2

from gateway import log
from gateway.correlate import Correlated
from gateway.database.counting import Counting
from gateway.database.tables.instances import RegisteredInstance
from gateway.database.wakeup import Wakeup
from gateway.dicom.dataset.part10 import preamble_and_file_meta
from gateway.domain.instance import Kind, file_names
from gateway.domain.routing import Origin, Route, priority_for
from gateway.faults import Faults
from gateway.forward.associations import Associations
from gateway.forward.context import ForwardContext
from gateway.forward.deliver import forward_to_worker
from gateway.receive.answers import StoreAnswers
from gateway.receive.context import ReceiverContext
from gateway.receive.refusals import Refusals
from gateway.register.caller_origin import Caller, CallerOrigins
from gateway.register.registration import Registration
from gateway.register.unregistered import Unregistered
from gateway.spool.envelope import ENVELOPE_BYTES, Envelope
from gateway.spool.partial import Partial
from gateway.spool.spool import Spool
from gateway.sweep.context import SweepContext
from support.edge_setup import EdgeSetup
from support.peers import Peer, peer
from support.synthetic_instances import EXPLICIT, Instance


class _AlwaysWorkers:
    """Stands for CallerOrigins; every caller is one of `workers`."""

    def __init__(self, workers: tuple[str, ...]) -> None:
        self._workers = workers

    def identify(self, _calling_ae_title: str, _remote_address: str) -> Caller:
        """Return the caller."""
        return Caller(Origin.WORKER, self._workers)


class RegisterAtOnce:
    """Stands for the registrar: registers in `submit`, on the thread of the caller."""

    def __init__(self, registration: Registration) -> None:
        self._registration = registration

    def submit(self, one: Unregistered) -> None:
        """Register."""
        self._registration.register_one(one)

    def wait_if_behind(self) -> None:
        """Return: it never is."""

    def why_refused(self) -> str:
        """Refuse nothing."""
        return ""

    def unregistered_bytes(self) -> int:
        """Return 0: all is registered."""
        return 0


class Forwarding:
    """The core in this process, on the database and the spool of `edge`."""

    def __init__(self, edge: EdgeSetup) -> None:
        self.edge = edge
        configuration = edge.configuration
        self.spool = Spool(configuration.edge.data_root)
        self.spool.prepare()
        self.spool.open_receiver()
        self._wakeup = Wakeup(edge.dsn)
        self._locks: list[psycopg2.extensions.connection] = []
        self.faults = Faults()
        self.context = self.actor()

    def actor(self) -> ForwardContext:
        """Return the context of the actors of another live process."""
        consumer = secrets.randbits(62)
        connection = psycopg2.connect(self.edge.dsn)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", (consumer,))
        self._locks.append(connection)
        configuration = self.edge.configuration
        return ForwardContext(
            configuration=configuration,
            database=self.edge.database,
            spool=self.spool,
            associations=Associations(configuration.edge.ae_title, configuration.forwarder),
            wakeup=self._wakeup,
            faults=self.faults,
            consumer=lambda: consumer,
            identity=self.edge.identity,
        )

    def die(self) -> None:
        """Release every actor's lock, as if its process was killed."""
        for connection in self._locks:
            connection.close()
        self._locks.clear()

    def sweeping(self, *, dry: bool = False, **more: Any) -> SweepContext:
        """Return the context of the sweep."""
        edge = self.edge
        return SweepContext(
            edge.configuration,
            edge.database,
            self.spool,
            self._wakeup,
            dry=dry,
            identity=edge.identity,
            **more,
        )

    def receive(
        self,
        instance: Instance,
        *,
        worker: str | None = None,
        origin: Origin = Origin.SENDER,
        workers: Sequence[str] = (),
    ) -> tuple[RegisteredInstance, Correlated | None]:
        """Store the instance as the SCP does; `worker` is the sender of a result.

        `workers` are the possible senders, if it called with another title.
        """
        one = self.received(instance, worker=worker, origin=origin)
        return self.registration(tuple(workers) or None).register_one(one)

    def received(
        self, instance: Instance, *, worker: str | None = None, origin: Origin = Origin.SENDER
    ) -> Unregistered:
        """Keep the file of an instance as the SCP does, without registering it."""
        kind = Kind.ORIGINAL if worker is None else Kind.RESULT
        forwarder = self.edge.configuration.forwarder
        meta = preamble_and_file_meta(
            instance.sop_class_uid,
            instance.sop_instance_uid,
            EXPLICIT,
            source_ae_title="ORTHANC",
            private_bytes=ENVELOPE_BYTES,
        )
        envelope = Envelope(
            reception_id=uuid4(),
            received_at=datetime.now(UTC),
            epoch=1,
            calling_ae_title=worker or "ORTHANC",
            called_ae_title="MINI_EDGE",
            remote_address="127.0.0.1",
            priority=priority_for(kind, urgent=False),
            kind=kind,
            origin=origin if worker is None else Origin.WORKER,
            targets=forwarder.targets.of(kind, forwarder.mode),
            sop_class_uid=instance.sop_class_uid,
            sop_instance_uid=instance.sop_instance_uid,
            study_instance_uid=instance.study_instance_uid,
            series_instance_uid=instance.series_instance_uid,
            transfer_syntax_uid=EXPLICIT,
            data_set_size=len(instance.data_set()),
            sha256=bytes.fromhex(instance.digest),
        )
        part = self.spool.begin()
        part.write(meta)
        part.write(instance.data_set())
        part.seal(envelope.pack(), len(meta) - ENVELOPE_BYTES)
        path = part.name(instance.study_instance_uid, file_names(instance.sop_instance_uid, instance.digest))
        part.flush()
        part.close()
        return Unregistered(envelope, path, part.path)

    def receiver_context(self, registrar: object | None = None) -> ReceiverContext:
        """Return what the C-STORE handler of a receiver uses; it registers before the answer."""
        origins = CallerOrigins(self.edge.configuration.forwarder)
        return ReceiverContext(
            self.edge.configuration,
            self.edge.configuration.forwarder.targets,
            self.edge.configuration.forwarder.rules,
            self.spool,
            cast("Any", registrar or RegisterAtOnce(self.registration())),
            self.faults,
            origins,
            self.edge.identity,
            Refusals(Counting()),
            StoreAnswers(Counting()),
        )

    def registration(self, workers: tuple[str, ...] | None = None) -> Registration:
        """Return what registers; with `workers`, every caller is one of these workers."""
        origins: CallerOrigins = CallerOrigins(self.edge.configuration.forwarder)
        if workers is not None:
            origins = cast("CallerOrigins", _AlwaysWorkers(workers))
        return Registration(self.edge.configuration, self.edge.database, self.spool, self._wakeup, origins)

    def owed(self, instance: Instance, route: Route = Route.PACS) -> int:
        """Return the id of the delivery of a new instance."""
        self.receive(instance)
        return int(self.edge.delivery(instance, route)["id"])

    def due(self) -> None:
        """End every wait: all deliveries are due."""
        self.edge.run("UPDATE deliveries SET next_attempt_at = now() WHERE state = 'pending'")

    def overdue(self) -> list[int]:
        """End every deadline of a result; return the ids."""
        return [
            row[0]
            for row in self.edge.rows(
                "UPDATE expected_results SET due_at = now() - interval '1 minute' WHERE state = 'owed'"
                " RETURNING id"
            )
        ]

    def close(self) -> None:
        """Close all threads, connections and associations."""
        self.context.associations.close()
        self._wakeup.close()
        self.spool.close_receiver()
        self.die()


@contextmanager
def forwarding(edge: EdgeSetup) -> Iterator[Forwarding]:
    """Yield the core for the length of the `with`."""
    log.configure(edge.configuration.edge.log_path, "test")
    core = Forwarding(edge)
    try:
        yield core
    finally:
        core.close()
        log.configure(None, "mini-pacs")


@contextmanager
def pacs_of(core: Forwarding) -> Iterator[Peer]:
    """Yield the PACS, listening; release its associations before it closes, which is faster."""
    with peer(core.edge.configuration.forwarder.orthanc.port) as pacs:
        try:
            yield pacs
        finally:
            core.context.associations.close()


@contextmanager
def workers_of(core: Forwarding) -> Iterator[dict[str, Peer]]:
    """Return all workers, listening; they accept everything and return no result."""
    with ExitStack() as stack:
        workers = core.edge.configuration.forwarder.workers
        peers = {worker.ae_title: stack.enter_context(peer(worker.port)) for worker in workers}
        try:
            yield peers
        finally:
            core.context.associations.close()


def at_once(*calls: Callable[[], object]) -> None:
    """Run callables in threads of their own; raise the first error."""
    errors: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001  raised by the caller's thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]


QUICK = {
    "backoff_base_seconds": 0.2,
    "backoff_max_seconds": 0.4,
    "probe_interval_seconds": 0.5,
    "max_retries": 1,
    "connect_timeout_seconds": 2,
    "lease_seconds": 90,
}
"""An edge that retries, probes and gives up quickly."""

LONG = timedelta(seconds=120)


def ask(core: Forwarding, instance: Instance) -> str:
    """Deliver the instance to a worker, which then has to return a result; return the worker."""
    forward_to_worker(core.context, core.owed(instance, Route.WORKERS))
    return str(core.edge.delivery(instance, "workers")["destination"])


def keep(part: Partial, study_instance_uid: str, names: Sequence[str]) -> Path:
    """Give a partial file its final name and flush it; return the name. It has no envelope."""
    path = part.name(study_instance_uid, names)
    part.flush()
    return Path(path)
