"""Fixtures for every folder: a migrated database, a configuration, real processes, and no leaks."""

import itertools
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, settings
from support import dicom_peers
from support.edge_setup import EdgeSetup
from support.forwarding import Forwarding, pacs_of, workers_of
from support.launcher import Processes
from support.peers import Peer
from support.prepared_instances import PreparedInstances
from support.queue_consumer import InProcess
from support.queue_setup import QueueSetup
from support.waiting import wait_until

from gateway import config, log
from gateway.database.migrate import migrate
from gateway.database.tables import destinations
from gateway.lab import layout, stray_processes
from gateway.lab.postgres import EmbeddedPostgres

# no deadline for an example: on a busy machine one may take long, which is no defect
settings.register_profile("mini-pacs", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mini-pacs")

TEMPLATE = "mini_pacs_template"
OWNER = "MINI_PACS_TEST"
"""The environment variable that marks the processes of a test."""
LEAK_SECONDS = 10.0

_numbers = itertools.count(1)

# A shell starts `make test &` with SIGINT ignored, and `nohup make test` with SIGHUP ignored. Each process of
# a test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses the database, directly or through another fixture."""
    for item in items:
        if isinstance(item, pytest.Function) and {"postgres", "own_postgres"} & set(item.fixturenames):
            item.add_marker(pytest.mark.needs_database)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the output of a failed test's processes beside its traceback."""
    report = yield
    processes = getattr(item, "funcargs", {}).get("processes")
    if report.failed and isinstance(processes, Processes):
        report.sections.append(("processes", processes.report()))
    return report


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """Yield the PostgreSQL of this session, with a migrated template; never stop it, see `own_postgres`."""
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-tests-"))
    folder.chmod(0o711)  # as root: PostgreSQL's user must be able to enter the folder
    server = EmbeddedPostgres(folder / "postgres")
    try:
        server.start()
        server.create_database(TEMPLATE)
        migrate(server.dsn(TEMPLATE))
        yield server
    finally:
        server.remove()
        shutil.rmtree(folder)


@pytest.fixture
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """Yield a PostgreSQL for this test only, not yet started, which the test may kill, stop and start."""
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-tests-"))
    folder.chmod(0o711)
    server = EmbeddedPostgres(folder / "postgres")
    try:
        yield server
    finally:
        server.remove()
        shutil.rmtree(folder)


@pytest.fixture
def database_url(postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield a new migrated database; DATABASE_URL names it for this process and its children."""
    name = f"test_{next(_numbers)}"
    postgres.create_database(name, template=TEMPLATE)
    monkeypatch.setenv("DATABASE_URL", postgres.dsn(name))
    try:
        yield postgres.dsn(name)
    finally:
        postgres.drop_database(name)


@pytest.fixture
def edge_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a config.yaml of free ports on 127.0.0.1; MINI_PACS_CONFIG names that file."""
    folder = tmp_path / "edge"
    path = layout.write(folder, layout.configuration(layout.choose_ports(well_known=False)))
    monkeypatch.setenv(config.PATH_VARIABLE, str(path))
    return folder


@pytest.fixture
def configuration(edge_folder: Path) -> config.Configuration:
    """Return the configuration of `edge_folder`."""
    return config.load(edge_folder / "config.yaml")


Reconfigure = Callable[[Mapping[str, Mapping[str, Any]]], config.Configuration]


@pytest.fixture
def reconfigure(edge_folder: Path, configuration: config.Configuration) -> Reconfigure:
    """Rewrite config.yaml with changes by section, on the same ports; return the new configuration."""

    def write(changes: Mapping[str, Mapping[str, Any]]) -> config.Configuration:
        forwarder = configuration.forwarder
        ports = layout.Ports(
            configuration.edge.port,
            forwarder.orthanc.port,
            0,
            tuple(worker.port for worker in forwarder.workers),
        )
        (edge_folder / "config.yaml").unlink()
        return config.load(layout.write(edge_folder, layout.configuration(ports, changes)))

    return write


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Yield a function that starts real commands; end them all after the test.

    Show their output if the test failed.
    """
    folder = tmp_path / "output"
    folder.mkdir()
    launched = Processes(folder)
    try:
        yield launched
    finally:
        launched.stop_all()


class MakeEdge(Protocol):
    """Makes an edge whose config.yaml differs from the lab's by `changes`, section by section."""

    def __call__(self, changes: Mapping[str, Mapping[str, Any]] | None = None) -> EdgeSetup:
        """Return the edge without a started process; call it once."""


@pytest.fixture
def make_edge(database_url: str, reconfigure: Reconfigure, processes: Processes) -> Iterator[MakeEdge]:
    """Yield a function that makes an edge with its own database, whose peers are registered there."""
    made: list[EdgeSetup] = []

    def make(changes: Mapping[str, Mapping[str, Any]] | None = None) -> EdgeSetup:
        edge = EdgeSetup(reconfigure(changes or {}), database_url, processes)
        made.append(edge)
        edge.identity.recognize(edge.database)
        edge.identity.mark(edge.database)  # so that the SCP receives at once
        with edge.database.transaction() as session:
            destinations.configure(session, edge.configuration)
        return edge

    yield make
    for edge in made:
        edge.kill()
        edge.close()


@pytest.fixture
def queue(database_url: str, processes: Processes) -> Iterator[QueueSetup]:
    """Yield a queue without consumers."""
    queue = QueueSetup(database_url, processes)
    yield queue
    queue.close()


@pytest.fixture
def consumer(queue: QueueSetup) -> Iterator[InProcess]:
    """Yield one consumer of that queue."""
    consumer = InProcess(queue.dsn)
    yield consumer
    consumer.close()


@pytest.fixture
def kept(database_url: str, configuration: config.Configuration) -> Iterator[PreparedInstances]:
    """Yield a database and a spool without instances; direct the log to standard error again at the end."""
    instances = PreparedInstances(database_url, configuration)
    yield instances
    instances.database.close()
    log.configure(None, "tests")


@pytest.fixture
def pacs(core: Forwarding) -> Iterator[Peer]:
    """Yield the PACS of the test's own `core`, listening."""
    with pacs_of(core) as pacs:
        yield pacs


@pytest.fixture
def workers(core: Forwarding) -> Iterator[dict[str, Peer]]:
    """Yield five workers of `core` that accept everything and return no result."""
    with workers_of(core) as workers:
        yield workers


@pytest.fixture
def running() -> Iterator[dicom_peers.Edge]:
    """Yield an acceptor of associations with long timeouts, without a gateway."""
    with dicom_peers.edge() as it:
        yield it


@pytest.fixture(autouse=True)
def _no_leaks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test if one of its processes or threads still runs after it."""
    before = set(threading.enumerate())
    identity = f"{os.getpid()}-{next(_numbers)}."  # the dot: the prefix 1 must not match 10
    monkeypatch.setenv(OWNER, identity)
    yield
    if "unit" in request.path.parts:
        return
    wait_until(
        lambda: not set(threading.enumerate()) - before, LEAK_SECONDS, "every thread of the test to end"
    )
    left = stray_processes.marked(identity, OWNER)
    try:
        wait_until(
            lambda: not stray_processes.marked(identity, OWNER),
            LEAK_SECONDS,
            f"the processes {left} of the test to end",
        )
    finally:
        stray_processes.end(identity, OWNER)
