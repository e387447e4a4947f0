"""An edge with an application that gets whole series or studies, and its peers."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from conftest import MakeEdge

from gateway.correlate import Correlated
from gateway.domain.outcome import Outcome
from gateway.forward.context import ForwardContext
from gateway.forward.unit import forward_unit
from gateway.lab import layout
from support.edge_setup import EdgeSetup
from support.forwarding import QUICK, Forwarding, forwarding
from support.peers import Peer, peer
from support.synthetic_instances import Instance, new_uid, result_of, study_of

WORKERS = ("APP01", "APP02")
APPLICATION = "chest-ct"


def whole(make_edge: MakeEdge, *, workers: Sequence[str] = WORKERS, **keys: Any) -> EdgeSetup:
    """Return an edge whose one application gets whole series; `keys` are those of the application."""
    ports = layout.free_ports(len(workers))
    application = {
        "unit": "series",
        "complete_after_seconds": 30,
        "max_wait_seconds": 900,
        "result_timeout_seconds": 600,
        "workers": [
            {"host": layout.LOOPBACK, "port": port, "ae_title": title, "timeout_s": 10}
            for title, port in zip(workers, ports, strict=True)
        ],
        **keys,
    }
    titles = ["ORTHANC", "CT1", *workers]
    return make_edge(
        {
            "edge": {"allowed_calling_aets": titles},
            "forwarder": {**QUICK, "workers": [], "applications": {APPLICATION: application}},
        }
    )


class Units:
    """The core in this process, with its workers listening."""

    def __init__(self, core: Forwarding, peers: dict[str, Peer]) -> None:
        self.core = core
        self.edge = core.edge
        self.peers = peers

    def quiet(self) -> None:
        """Let the quiet time of every unit run out."""
        self.edge.run("UPDATE units SET last_at = now() - interval '1 hour' WHERE state = 'collecting'")

    def due(self) -> None:
        """End every wait of a unit."""
        self.edge.run("UPDATE units SET next_attempt_at = now() WHERE state = 'complete'")

    def overdue(self) -> None:
        """End every deadline of a result."""
        self.edge.run("UPDATE units SET next_attempt_at = now() - interval '1 minute' WHERE state = 'sent'")

    def ids(self) -> list[int]:
        """Return every unit, oldest first."""
        return [row[0] for row in self.edge.rows("SELECT id FROM units ORDER BY id")]

    def states(self) -> list[str]:
        """Return the state of every unit, oldest first."""
        return [row[0] for row in self.edge.rows("SELECT state::text FROM units ORDER BY id")]

    def delivery_states(self) -> set[str]:
        """Return the states of all deliveries to the application."""
        return {
            row[0] for row in self.edge.rows("SELECT state::text FROM deliveries WHERE route = 'workers'")
        }

    def run(
        self,
        unit_id: int | None = None,
        *,
        actor: ForwardContext | None = None,
        unregistered: datetime | None = None,
    ) -> Outcome | None:
        """Run the message of a unit, by default of the last one."""
        return forward_unit(
            actor or self.core.context,
            self.ids()[-1] if unit_id is None else unit_id,
            unregistered_since=lambda: unregistered,
        )

    def receive(self, *instances: Instance) -> None:
        """Store and register instances."""
        for one in instances:
            self.core.receive(one)

    def send(self, *instances: Instance) -> Outcome | None:
        """Receive instances, let their unit become complete, and send it."""
        self.receive(*instances)
        self.quiet()
        return self.run()

    def result(
        self, *sources: Instance, worker: str, number: int = 0, study: str | None = None
    ) -> Correlated:
        """Receive a result of a worker."""
        _, correlated = self.core.receive(result_of(*sources, number=number, study=study), worker=worker)
        assert correlated is not None
        return correlated

    def worker(self, unit_id: int | None = None) -> str:
        """Return the worker of a unit, by default of the last one."""
        chosen = self.ids()[-1] if unit_id is None else unit_id
        return str(self.edge.one("SELECT worker FROM units WHERE id = %(id)s", id=chosen))

    def got(self) -> dict[str, list[str]]:
        """Return the SOP Instance UIDs that each worker answered with Success."""
        return {title: one.uids() for title, one in self.peers.items()}


def series_of(count: int, *, study: str | None = None, **more: Any) -> list[Instance]:
    """Return that many instances of one new series."""
    series = new_uid()
    made = [replace(one, series_instance_uid=series, **more) for one in study_of(count)]
    return made if study is None else [replace(one, study_instance_uid=study) for one in made]


@contextmanager
def units_of(edge: EdgeSetup) -> Iterator[Units]:
    """Yield the core of `edge`, and its workers, listening."""
    with forwarding(edge) as core, ExitStack() as stack:
        workers = edge.configuration.forwarder.all_workers
        peers = {one.ae_title: stack.enter_context(peer(one.port)) for one in workers}
        try:
            yield Units(core, peers)
        finally:
            core.context.associations.close()
