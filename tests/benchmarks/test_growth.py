"""What a million instances cost: kept ones the sweep, a purge and the commands; waiting ones the deliveries.

And what a million instances cost that wait for one archive: the other archives, and the commands. The rows
are written by SQL (tests/support/kept_instances.py). The files of the kept ones are empty: nothing there
reads a data set. No grace keeps a file from being examined.
"""

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from conftest import MakeEdge
from support import kept_instances, wire_edge, wire_peers
from support.edge_setup import EdgeSetup
from support.forwarding import Forwarding, forwarding
from support.launcher import Processes, command
from support.peers import Peer, after
from support.synthetic_instances import Instance
from support.targets import hospital, peers_of
from support.waiting import wait_until
from support.wire_comparison import ROUNDS
from support.wire_data import SMALL_BYTES, Load, made, part10, scaled, write
from support.wire_senders import dcmsend
from support.wire_table import Rows

from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import overview, studies, timeline
from gateway.lab import layout
from gateway.lab.postgres import EmbeddedPostgres
from gateway.metrics.current import CurrentConfiguration
from gateway.metrics.exporter import Exporter, Source
from gateway.metrics.from_database import FromDatabase
from gateway.metrics.from_host import FromHost
from gateway.metrics.spool_usage import SpoolUsage
from gateway.sweep import run
from gateway.sweep.context import Counts, SweepContext
from gateway.sweep.slices import Part

pytestmark = [pytest.mark.benchmark, pytest.mark.growth, pytest.mark.timeout(3600)]

KEPT = scaled(1_000_000)
PURGED = scaled(200_000)
STUDIES = scaled(kept_instances.STUDIES)
WAITING = scaled(1_000_000)
RATED = 300
"""How many instances are sent to measure a rate."""
OTHERS = ("ORTHANC", "RES")
REPEATS = 5
SOME = 1_000
ASSOCIATIONS = 8


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield an edge that keeps a million delivered instances."""
    with forwarding(make_edge({"sweep": {"orphan_grace_seconds": 0.001}})) as core:
        kept_instances.fill(core.edge, KEPT, STUDIES)
        yield core


def test_a_million_kept_instances(core: Forwarding, rows: Rows) -> None:
    """The sweep and the commands, then a purge."""
    _sweeps(core, rows)
    _commands(core.edge, rows)
    _scrape(core.edge, rows)
    _purge(core, rows)


def test_a_million_deliveries_waiting(
    rows: Rows, postgres: EmbeddedPostgres, processes: Processes, tmp_path: Path
) -> None:
    """Deliver the first ones of a million that wait, and of a thousand; small instances, to our sink."""
    many = _rate_of_deliveries(KEPT, postgres, processes, tmp_path)
    few = statistics.median(_rate_of_deliveries(SOME, postgres, processes, tmp_path) for _ in range(3))
    what = f"deliveries, {KEPT:,} waiting with their files"
    rows.faster(what, many, than=f"{SOME} waiting", theirs=few, at_least=0.8)


def test_accepting_while_a_million_are_kept(rows: Rows, postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """Send small instances to an edge that keeps a million and to a new one, in turn; forward nothing."""
    sent = 0
    with wire_edge.edge(postgres, tmp_path) as full, wire_edge.edge(postgres, tmp_path) as new:
        kept_instances.fill(full, KEPT, STUDIES)
        os.sync()

        def rate(edge: EdgeSetup, load: Load) -> float:
            return dcmsend(load, edge.configuration.edge.port, "MINI_EDGE", ASSOCIATIONS)

        rates: list[tuple[float, float]] = []
        for number in range(ROUNDS):  # with new UIDs each time: a repeat costs less
            load = write(tmp_path, f"load-{number}", scaled(2000), SMALL_BYTES)
            sent += load.count
            rates.append((rate(full, load), rate(new, load)))
        assert full.one("SELECT count(*) FROM instances") == KEPT + sent
    many, none = (statistics.median(figures) for figures in zip(*rates, strict=True))
    what = f"accept, small, {ASSOCIATIONS} assoc., {KEPT:,} kept"
    rows.faster(what, many, than="none kept", theirs=none, at_least=0.9)


def _rate_of_deliveries(count: int, postgres: EmbeddedPostgres, processes: Processes, folder: Path) -> float:
    """Return the deliveries per second of the first SOME, from the first to the last at the PACS."""
    ports = layout.choose_ports(well_known=False)
    [instance] = made(1, bytes(SMALL_BYTES))
    with wire_edge.edge(postgres, folder, {"forwarder": {"mode": "pacs_only"}}, ports=ports) as edge:
        kept_instances.owe(edge, count, instance.data_set(), part10(instance))
        sink = wire_peers.Sink(processes, folder, ports.pacs)
        os.sync()
        wire_edge.start_actors(edge, "pacs")
        sink.wait_for(SOME, 300)
        times = sorted(sink.times().values())[:SOME]
    processes.stop_all()
    return (len(times) - 1) / (times[-1] - times[0])


def _sweeps(core: Forwarding, rows: Rows) -> None:
    took, runs = [], 0
    began = time.monotonic()
    while True:
        seconds, context = _a_run(core)
        took.append(seconds)
        runs += 1
        if Part.STORED_FILES not in context.unfinished:
            break
    rows.within(f"sweep, a run with {KEPT:,} kept, nothing changed, the longest", max(took), "s", at_most=2)
    rows.within("runs until every file was looked at", runs, "runs", at_most=None,
                peer=f"{KEPT / (time.monotonic() - began):.0f} files/s")  # fmt: skip


def _a_run(core: Forwarding) -> tuple[float, SweepContext]:
    context = core.sweeping(sliced=True)
    began = time.monotonic()
    run.each_minute(context)
    return time.monotonic() - began, context


def _commands(edge: EdgeSetup, rows: Rows) -> None:
    study = kept_instances.study(STUDIES // 2)
    looks: dict[str, Callable[[Session], object]] = {
        "status": overview.overview,
        "studies": lambda session: studies.page(session, last=20, after=None),
        f"status --study {study}": lambda session: timeline.of_study(session, study),
    }
    start = _median(
        partial(subprocess.run, command("mini-pacs", "--version"), check=True, capture_output=True)
    )
    for words, look in looks.items():
        line = command("mini-pacs", *words.split())
        whole = _median(partial(subprocess.run, line, check=True, capture_output=True))
        name = f"mini-pacs {words.replace(study, 'UID')}, {KEPT:,} kept"
        rows.within(f"{name}, whole", whole, "s", at_most=0.5, peer=f"mini-pacs --version {start:.2g} s")
        rows.within(f"{name}, its SQL", _median(partial(_read, edge, look)) * 1000, "ms", at_most=None)


def _scrape(edge: EdgeSetup, rows: Rows) -> None:
    """What a scrape costs PostgreSQL and the exporter, without the counting of files in the background."""
    database = Database(edge.dsn, application_name="bench", size=1)
    usage = SpoolUsage(edge.configuration.edge.data_root)
    current = CurrentConfiguration(edge.configuration)
    sources: list[Source] = [FromHost(current, usage), FromDatabase(current, database)]
    exporter = Exporter(sources, cache_seconds=0)
    took = _median(lambda: list(exporter.collect()))
    rows.within(f"a scrape of mini-pacs metrics, {KEPT:,} kept", took * 1000, "ms", at_most=50)
    began = time.monotonic()
    usage.look()
    first = time.monotonic() - began
    rows.within(f"counting {KEPT:,} files of the spool, first", first, "s", at_most=None)
    rows.within("counting them again, nothing changed", _median(usage.look), "s", at_most=None)
    database.close()


def _read(edge: EdgeSetup, look: Callable[[Session], object]) -> None:
    with edge.database.transaction() as session:
        look(session)


def _median(do: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        do()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _purge(core: Forwarding, rows: Rows) -> None:
    kept_instances.grow_old(core.edge, PURGED)
    slices: list[float] = []

    def timed(context: SweepContext) -> Counts:
        began = time.monotonic()
        counts = purge(context)
        slices.append(time.monotonic() - began)
        return counts

    purge = run.VERBS["purge"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run, "VERBS", {**run.VERBS, "purge": timed})
        minutes = []
        while core.edge.one("SELECT count(*) FROM instances") > KEPT - PURGED:
            minutes.append(_a_run(core)[0])
    assert _files(core.edge) == KEPT - PURGED
    rows.within(f"purge of {PURGED:,}, the longest slice", max(slices), "s", at_most=5)
    how = f"{PURGED / sum(slices):.0f}/s, {len(slices)} slices in {len(minutes)} runs"
    rows.within(f"purge of {PURGED:,}, in all", sum(slices), "s", at_most=None, peer=how)


def _files(edge: EdgeSetup) -> int:
    return sum(1 for _ in Path(edge.configuration.edge.data_root).glob("*/*/*.dcm"))


def test_a_million_wait_for_an_archive_that_hangs(make_edge: MakeEdge, rows: Rows) -> None:
    """VNA accepts associations and answers no C-STORE; PACS and RES get their instances as before."""
    edge = hospital(make_edge, mode="pacs_only", lease_seconds=300)
    released = threading.Event()
    with forwarding(edge) as core, peers_of(edge) as peers:
        for route in ("pacs", "archives"):
            edge.actors(route, threads=8)
        _delivered_a_second(core, peers)  # until processes and connections are there
        before = [_delivered_a_second(core, peers) for _ in range(REPEATS)]
        peers["VNA"].answer = after(released)
        _delivered_a_second(
            core, peers
        )  # VNA hangs with these; the others have no files and wait behind them
        kept_instances.fill_waiting(edge, WAITING, "VNA")
        core.context.wakeup.wake("archives")
        wait_until(
            lambda: edge.one("SELECT count(*) FROM deliveries WHERE state = 'in_flight'"), 60, "VNA to hang"
        )
        what = f"delivered to two archives, {WAITING:,} wait for one that hangs"
        rates = [_delivered_a_second(core, peers) for _ in range(REPEATS)]
        rows.faster(
            what,
            statistics.median(rates),
            than="nothing waits",
            theirs=statistics.median(before),
            at_least=0.9,
        )
        line = command("mini-pacs", "status")
        took = _median(partial(subprocess.run, line, check=False, capture_output=True))
        rows.within(f"mini-pacs status, {WAITING:,} wait for one archive", took, "s", at_most=None)
        name = f"mini-pacs status, {WAITING:,} wait for one archive, its SQL"
        rows.within(name, _median(partial(_read, edge, overview.overview)) * 1000, "ms", at_most=500)
        edge.kill()
        released.set()


def _delivered_a_second(core: Forwarding, peers: dict[str, Peer]) -> float:
    """Register instances, and wait until two archives have them; return how many that were in a second."""
    instances = [Instance() for _ in range(RATED)]
    began = time.monotonic()
    for one in instances:
        core.receive(one)
        core.context.wakeup.wake("pacs")
        core.context.wakeup.wake("archives")
    wanted = {one.sop_instance_uid for one in instances}
    wait_until(lambda: all(wanted <= set(peers[name].uids()) for name in OTHERS), 120, "both to have them")
    return RATED / (time.monotonic() - began)
