"""A real edge for one measurement: new database, new spool, processes as in production, fsync on."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway import config
from gateway.database.tables import destinations
from gateway.lab import layout
from gateway.lab.postgres import EmbeddedPostgres
from support import released_tree
from support.dicom_peers import ECHO
from support.edge_setup import EdgeSetup, children
from support.launcher import Process, Processes
from support.wire_data import Load
from support.wire_senders import dcmsend

TEMPLATE = "mini_pacs_template"
ACTOR_PROCESSES = int(os.environ.get("BENCH_ACTOR_PROCESSES", "1"))
ACTOR_THREADS = int(os.environ.get("BENCH_ACTOR_THREADS", "8"))
"""As in docker-compose.yml."""

_actors: dict[int, list[Process]] = {}
"""By the process id of their SCP."""
_environments: dict[int, dict[str, str]] = {}
"""The environment of the processes of each edge, by the process id of its SCP."""


@contextmanager
def edge(
    postgres: EmbeddedPostgres,
    folder: Path,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    actors: tuple[str, ...] = (),
    ports: layout.Ports | None = None,
) -> Iterator[EdgeSetup]:
    """Yield an edge that listens, with actor processes for those queues, for the length of the `with`."""
    name, place, processes = _new_place(folder)
    postgres.create_database(name, template=TEMPLATE)
    path = layout.write(
        place / "edge",
        layout.configuration(ports or layout.choose_ports(well_known=False), changes),
    )
    environment = {
        config.PATH_VARIABLE: str(path),
        "DATABASE_URL": postgres.dsn(name),
        "dramatiq_restart_delay": "500",
    }
    edge = EdgeSetup(config.load(path), postgres.dsn(name), processes)
    try:
        with edge.database.transaction() as session:
            destinations.configure(session, edge.configuration)
        edge.serve("mini-pacs", "serve", **environment)
        with edge.association([ECHO]) as association:
            assert association.echo() == 0
        _environments[edge.scp.pid] = environment
        for queue in actors:
            start_actors(edge, queue)
        yield edge
    finally:
        processes.stop_all()
        edge.close()
        postgres.drop_database(name)


def accept_rate(
    load: Load, associations: int, postgres: EmbeddedPostgres, folder: Path, *, nagle: bool = False
) -> float:
    """Send the load to a new edge that forwards nothing; return the instances per second."""
    with edge(postgres, folder) as it:
        rate = dcmsend(load, it.configuration.edge.port, "MINI_EDGE", associations, nagle=nagle)
        assert it.one("SELECT count(*) FROM instances") == load.count
    return rate


def _new_place(folder: Path) -> tuple[str, Path, Processes]:
    """Return the name of a new database, a new folder with that name, and what starts processes there."""
    name = f"bench_{folder.name.replace('-', '_')}_{len(list(folder.iterdir()))}"
    place = folder / name
    (place / "output").mkdir(parents=True)
    return name, place, Processes(place / "output")


@contextmanager
def released(
    postgres: EmbeddedPostgres, folder: Path, tree: Path, queues: tuple[str, ...], ports: layout.Ports
) -> Iterator[None]:
    """Run the edge of a release, whose code is in `tree`, for the length of the `with`."""
    name, place, processes = _new_place(folder)
    postgres.create_database(name)
    path = layout.write(place / "edge", layout.configuration(ports))
    environment = {config.PATH_VARIABLE: str(path), "DATABASE_URL": postgres.dsn(name)}
    counts = ("-p", str(ACTOR_PROCESSES), "-t", str(ACTOR_THREADS))
    try:
        serve = released_tree.words(tree, "-m", "cli", "serve")
        processes.start(*serve, **environment).wait_for_port(ports.edge, 30)
        for queue in queues:
            words = released_tree.words(tree, "-m", "dramatiq", "actors", *counts, "-Q", queue)
            processes.start(*words, **environment).wait_for_line("ready for action", 30)
        yield
    finally:
        processes.stop_all()
        postgres.drop_database(name)


def start_actors(edge: EdgeSetup, queue: str) -> None:
    """Start the actor processes of a queue; return when they are ready."""
    process = edge.start(
        "dramatiq", "actors", "-p", str(ACTOR_PROCESSES), "-t", str(ACTOR_THREADS), "-Q", queue,
        **_environments[edge.scp.pid],
    )  # fmt: skip
    process.wait_for_line("ready for action", 30)
    _actors.setdefault(edge.scp.pid, []).append(process)


def actors_of(edge: EdgeSetup) -> list[int]:
    """Return the parents of its actor processes."""
    return [process.pid for process in _actors.get(edge.scp.pid, [])]


def roots(edge: EdgeSetup) -> list[int]:
    """Return the processes that were started for this edge: the SCP and the actors."""
    return [edge.scp.pid, *actors_of(edge)]


def receivers(edge: EdgeSetup) -> list[int]:
    """Return the processes of the SCP: the parent and its receivers."""
    return [edge.scp.pid, *children(edge.scp.pid)]


def resident_mb(pid: int) -> float:
    """Return the process's memory in RAM in MB; 0 if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of the process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
