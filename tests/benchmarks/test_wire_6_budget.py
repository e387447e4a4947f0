"""What one instance costs the edge: CPU, waits, statements, flushes, bytes; beside a bare loop.

These figures hardly depend on what else the machine does (`support.wire_budget`).
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import wire_budget, wire_edge, wire_peers
from support.edge_setup import EdgeSetup
from support.launcher import Processes
from support.waiting import wait_until
from support.wire_data import Load, scaled
from support.wire_floor import floor
from support.wire_senders import dcmsend
from support.wire_table import Rows

from gateway.lab import layout
from gateway.lab.postgres import EmbeddedPostgres

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]

PACS_ONLY = {"forwarder": {"mode": "pacs_only"}}
COUNTED = {"CT": 75, "small": 250}
STATEMENTS = 8
"""How many of the most frequent statements are named."""


@contextlib.contextmanager
def _routing(
    postgres: EmbeddedPostgres, processes: Processes, folder: Path
) -> Iterator[tuple[EdgeSetup, wire_peers.Sink]]:
    ports = layout.choose_ports(well_known=False)
    sink = wire_peers.Sink(processes, folder, ports.pacs)
    with wire_edge.edge(postgres, folder, PACS_ONLY, actors=("pacs",), ports=ports) as edge:
        yield edge, sink
    processes.stop_all()


@pytest.mark.parametrize("kind", ["CT", "small"])
def test_budget(  # noqa: PLR0917  fixtures
    kind: str,
    loads: dict[str, Load],
    rows: Rows,
    postgres: EmbeddedPostgres,
    processes: Processes,
    tmp_path: Path,
) -> None:
    """Receive and forward one load to our sink: once measured, and a part of it counted."""
    load = loads[kind]
    bare = floor(load, postgres, tmp_path)
    total = 0.0
    with _routing(postgres, processes, tmp_path) as (edge, sink):
        groups = wire_budget.groups(edge, wire_edge.actors_of(edge), postgres)
        before = {name: wire_budget.cost(pids) for name, pids in groups.items()}
        log_before = wire_budget.log_bytes(edge)
        dcmsend(load, edge.configuration.edge.port, "MINI_EDGE", 1)
        sink.wait_for(load.count, 300)
        wait_until(
            lambda: edge.one("SELECT count(*) FROM deliveries WHERE state <> 'delivered'") == 0,
            30,
            "the last settlement",
        )
        used = {name: wire_budget.cost(pids) - before[name] for name, pids in groups.items()}
        log_bytes, flushes = (
            (now - then) / load.count
            for now, then in zip(wire_budget.log_bytes(edge), log_before, strict=True)
        )
    for name, cost in used.items():
        each = 1000 * (cost.user + cost.system) / load.count
        total += each
        detail = f"{1000 * cost.user / load.count:.2f} user, {cost.switches / load.count:.1f} waits"
        if name != "PostgreSQL":
            detail += f", {cost.copied / load.count / 1000:.0f} KB read and written"
        rows.within(f"CPU of {name}, {kind}", each, "ms", at_most=None, peer=detail)
    rows.within(f"CPU in all, {kind}", total, "ms", at_most=None, peer=f"bare loop {bare.cpu_ms:.2f} ms")
    rows.within(f"write-ahead log, {kind}", log_bytes / 1000, "KB", at_most=None,
                peer=f"bare loop {bare.log_bytes / 1000:.2f} KB")  # fmt: skip
    rows.within(f"flushes of the log, {kind}", flushes, "", at_most=None, peer="bare loop 1")
    rows.within(f"a bare loop, {kind}", bare.milliseconds, "ms", at_most=None, peer=f"{bare.flushes} flushes")
    _count(kind, load, rows, postgres, processes, tmp_path)


def _count(  # noqa: PLR0917  fixtures
    kind: str, load: Load, rows: Rows, postgres: EmbeddedPostgres, processes: Processes, folder: Path
) -> None:
    """Count statements and system calls of a part of the load."""
    part = load.share(scaled(COUNTED[kind]))
    with (
        wire_budget.statements_logged(postgres.dsn()),
        _routing(postgres, processes, folder) as (edge, sink),
    ):
        groups = wire_budget.groups(edge, wire_edge.actors_of(edge), postgres)
        traced = {name: pids for name, pids in groups.items() if name != "PostgreSQL"}
        with wire_budget.counted(traced, postgres, folder) as counts:
            dcmsend(part, edge.configuration.edge.port, "MINI_EDGE", 1)
            sink.wait_for(part.count, 300)
            time.sleep(0.5)  # for the last settlements; a query would be counted
    each = sum(counts.statements.values()) / part.count
    rows.within(f"statements, {kind}", each, "", at_most=None)
    for statement, count in counts.statements.most_common(STATEMENTS):
        rows.within(f"statement, {kind}: `{statement}`", count / part.count, "", at_most=None)
    for name, calls in counts.calls.items():
        flushes = sum(calls[call] for call in wire_budget.FLUSHES)
        most = ", ".join(f"{call} {count / part.count:.1f}" for call, count in calls.most_common(6))
        rows.within(f"flushes of files by {name}, {kind}", flushes / part.count, "", at_most=None)
        calls_each = sum(calls.values()) / part.count
        rows.within(f"system calls of {name}, {kind}", calls_each, "", at_most=None, peer=most)
