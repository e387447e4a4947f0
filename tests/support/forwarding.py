"""The core without its processes: instances in spool and database, delivered by this process."""

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import psycopg2

from gateway import log
from gateway.correlate import Correlated
from gateway.database.tables.instances import ReceivedInstance, RegisteredInstance
from gateway.database.wakeup import Wakeup
from gateway.dicom.dataset.header import read_header
from gateway.dicom.dataset.part10 import preamble_and_file_meta
from gateway.domain.instance import Kind, file_names
from gateway.domain.routing import Origin, Route, priority_for, routes_for
from gateway.faults import Faults
from gateway.forward.associations import Associations
from gateway.forward.context import ForwardContext
from gateway.forward.deliver import forward_to_worker
from gateway.receive.commit import Committer
from gateway.spool.spool import Spool
from gateway.sweep.context import SweepContext
from support.edge_setup import EdgeSetup
from support.peers import Peer, peer
from support.synthetic_instances import EXPLICIT, Instance


class Forwarding:
    """The core in this process, on the database and the spool of `edge`."""

    def __init__(self, edge: EdgeSetup) -> None:
        self.edge = edge
        configuration = edge.configuration
        self.spool = Spool(configuration.edge.data_root)
        self.spool.prepare()
        self.spool.open_receiver()
        self._committer = Committer(edge.database, window=configuration.edge.duplicate_window)
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
        )

    def die(self) -> None:
        """Release every actor's lock, as if its process was killed."""
        for connection in self._locks:
            connection.close()
        self._locks.clear()

    def sweeping(self, *, dry: bool = False, **more: Any) -> SweepContext:
        """Return the context of the sweep."""
        return SweepContext(
            self.edge.configuration, self.edge.database, self.spool, self._wakeup, dry=dry, **more
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
        kind = Kind.ORIGINAL if worker is None else Kind.RESULT
        meta = preamble_and_file_meta(
            instance.sop_class_uid, instance.sop_instance_uid, EXPLICIT, source_ae_title="ORTHANC"
        )
        part = self.spool.begin()
        try:
            part.write(meta)
            part.write(instance.data_set())
            header = read_header(part.descriptor, len(meta), EXPLICIT, with_references=True)
            names = file_names(instance.sop_instance_uid, instance.digest)
            path = part.keep(instance.study_instance_uid, names)
            return self._committer.commit(
                ReceivedInstance(
                    sop_instance_uid=instance.sop_instance_uid,
                    study_instance_uid=instance.study_instance_uid,
                    series_instance_uid=instance.series_instance_uid,
                    sop_class_uid=instance.sop_class_uid,
                    transfer_syntax_uid=EXPLICIT,
                    sha256=bytes.fromhex(instance.digest),
                    data_set_size=len(instance.data_set()),
                    calling_ae_title=worker or "ORTHANC",
                    called_ae_title="MINI_EDGE",
                    remote_address="127.0.0.1",
                    kind=kind,
                    file_name=path.name,
                    routes=routes_for(kind, self.edge.configuration.forwarder.mode),
                    priority=priority_for(kind, urgent=False),
                    origin=origin if worker is None else Origin.WORKER,
                ),
                header,
                workers=workers,
            )
        finally:
            part.discard()

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
