"""Receive and forward, compared with Orthanc as autorouter; latency; the full flow through workers."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from support import released_tree, wire_edge, wire_peers
from support.launcher import Processes
from support.waiting import wait_until
from support.wire_comparison import in_turn
from support.wire_data import CT_BYTES, SMALL_BYTES, Load, made, scaled, write
from support.wire_senders import CONTEXT, dcmsend, percentile
from support.wire_table import Rows

from gateway.lab import layout
from gateway.lab.postgres import EmbeddedPostgres

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

PACS_ONLY = {"forwarder": {"mode": "pacs_only"}}
TARGETS = {"CT": 5.0, "small": 15.0}
SINK_TARGETS = {"CT": 1.2, "small": 1.5}
"""The same, where the PACS answers at once and Orthanc sends without Nagle's algorithm."""
FLOW_TARGET = 1.8
"""The required multiple of the rate of RELEASED."""
RELEASED, RELEASED_COMMIT = "0.2.0", "d33ddf7"
FLOW_SHARE = {"CT": 300, "small": 500}
SINK_SHARE = {"CT": 300, "small": 250}
FEW = 104
"""What Orthanc routes to storescp. Its rate is constant, 10 to 20/s, so more would only take minutes."""
SIZES = {"CT": CT_BYTES, "small": SMALL_BYTES}


def _ports() -> layout.Ports:
    return layout.choose_ports(well_known=False)


@pytest.mark.parametrize("kind", ["CT", "small"])
def test_receive_and_forward(  # noqa: PLR0917  fixtures
    kind: str,
    loads: dict[str, Load],
    rows: Rows,
    postgres: EmbeddedPostgres,
    processes: Processes,
    tmp_path: Path,
) -> None:
    """Measure from the start of the sender to the last instance's response at the PACS."""
    few = write(tmp_path / "few", kind, scaled(FEW), SIZES[kind])
    ours, theirs = in_turn(
        lambda: _edge_rate(loads[kind], postgres, processes, tmp_path),
        lambda: _orthanc_rate(few, processes, tmp_path, nodelay=False),
    )
    best = _orthanc_rate(few, processes, tmp_path, nodelay=True)
    what = f"receive and forward, {kind}"
    rows.faster(what, ours, than="Orthanc", theirs=theirs, at_least=TARGETS[kind])
    rows.faster(what, ours, than="Orthanc, TCP_NODELAY=1", theirs=best, at_least=None)


@pytest.mark.parametrize("kind", ["CT", "small"])
def test_receive_and_forward_to_our_sink(  # noqa: PLR0917  fixtures
    kind: str,
    loads: dict[str, Load],
    rows: Rows,
    postgres: EmbeddedPostgres,
    processes: Processes,
    tmp_path: Path,
) -> None:
    """Measure the same with a PACS that answers at once, so that the PACS does not limit either router."""
    share = loads[kind].share(scaled(SINK_SHARE[kind]))
    ours, theirs = in_turn(
        lambda: _edge_rate(share, postgres, processes, tmp_path, wire_peers.Sink),
        lambda: _orthanc_rate(share, processes, tmp_path, wire_peers.Sink, nodelay=True),
    )
    what = f"receive and forward, {kind}, to our sink"
    rows.faster(what, ours, than="Orthanc, TCP_NODELAY=1", theirs=theirs, at_least=SINK_TARGETS[kind])


def _edge_rate(
    load: Load,
    postgres: EmbeddedPostgres,
    processes: Processes,
    folder: Path,
    pacs_of: type[wire_peers.Archive | wire_peers.Sink] = wire_peers.Archive,
) -> float:
    ports = _ports()
    pacs = pacs_of(processes, folder, ports.pacs)
    with wire_edge.edge(postgres, folder, PACS_ONLY, actors=("pacs",), ports=ports) as edge:
        os.sync()
        began = time.monotonic()
        dcmsend(load, edge.configuration.edge.port, "MINI_EDGE", 1)
        rate = load.count / (pacs.last_of(load.count, 300) - began)
    processes.stop_all()
    return rate


def _orthanc_rate(
    load: Load,
    processes: Processes,
    folder: Path,
    pacs_of: type[wire_peers.Archive | wire_peers.Sink] = wire_peers.Archive,
    *,
    nodelay: bool,
) -> float:
    pacs = pacs_of(processes, folder)
    port = wire_peers.orthanc(processes, folder, route_to=pacs.port, nodelay=nodelay)
    os.sync()
    began = time.monotonic()
    dcmsend(load, port, "ORTHANC", 1)
    rate = load.count / (pacs.last_of(load.count, 600) - began)
    processes.stop_all()
    return rate


def test_latency(rows: Rows, postgres: EmbeddedPostgres, processes: Processes, tmp_path: Path) -> None:
    """Measure from the last byte, and from our C-STORE-RSP, to the PACS's; one instance each 50 ms."""
    ports = _ports()
    sink = wire_peers.Sink(processes, tmp_path, ports.pacs)
    instances = made(scaled(400), bytes(100_000))
    sent, answered = {}, {}
    with wire_edge.edge(postgres, tmp_path, PACS_ONLY, actors=("pacs",), ports=ports) as edge:
        with edge.association([CONTEXT]) as association:
            for instance in instances:
                last_byte: list[float] = []
                data_set = _noting_its_end(instance.data_set(), last_byte)
                assert association.store(CONTEXT, instance.sop_instance_uid, data_set)[0] == 0
                answered[instance.sop_instance_uid] = time.monotonic()
                sent[instance.sop_instance_uid] = last_byte[0]
                time.sleep(0.05)  # the light load itself, not a wait for something
        sink.wait_for(len(instances), 30)
        arrived = sink.times()
    for since, began, most in (("our response", answered, (25, 100)), ("the last byte", sent, (None, None))):
        delays = [(arrived[uid] - at) * 1000 for uid, at in began.items()]
        what = f"latency to the PACS, from {since}"
        rows.within(f"{what}, p50", statistics.median(delays), "ms", at_most=most[0])
        rows.within(f"{what}, p99", percentile(delays, 0.99), "ms", at_most=most[1])


def _noting_its_end(data_set: bytes, at: list[float]) -> Iterator[bytes]:
    """Yield the data set, and note when its sender has taken all of it, just before the last bytes go."""
    yield data_set
    at.append(time.monotonic())


@pytest.mark.parametrize("kind", ["CT", "small"])
def test_the_full_flow(  # noqa: PLR0917  fixtures
    kind: str,
    loads: dict[str, Load],
    rows: Rows,
    postgres: EmbeddedPostgres,
    processes: Processes,
    tmp_path: Path,
) -> None:
    """Original to the PACS, copy to a worker that answers at once, result to the PACS: five C-STOREs."""
    try:
        released = released_tree.extract(RELEASED_COMMIT, tmp_path / "released")
    except released_tree.NotInThisCloneError:
        pytest.skip(f"this clone does not have version {RELEASED}")
    share = loads[kind].share(scaled(FLOW_SHARE[kind]))
    ours, theirs = in_turn(
        lambda: _flow_rate(share, processes, tmp_path, lambda ports: _edge(postgres, tmp_path, ports)),
        lambda: _flow_rate(
            share,
            processes,
            tmp_path,
            lambda ports: wire_edge.released(postgres, tmp_path, released, ("pacs", "workers"), ports),
        ),
    )
    what = f"full flow, {kind}"
    rows.faster(what, ours, than=f"version {RELEASED}", theirs=theirs, at_least=FLOW_TARGET)


def _flow_rate(
    load: Load,
    processes: Processes,
    folder: Path,
    edge_of: Callable[[layout.Ports], AbstractContextManager[object]],
) -> float:
    ports = _ports()
    titles = list(layout.WORKERS)
    consecutive = tuple(ports.workers[0] + n for n in range(len(titles)))
    ports = layout.Ports(ports.edge, ports.pacs, ports.pacs_http, consecutive)
    sink = wire_peers.Sink(processes, folder, ports.pacs)
    wire_peers.workers(processes, folder, consecutive, ports.edge, titles)
    with edge_of(ports):
        os.sync()
        began = time.monotonic()
        dcmsend(load, ports.edge, "MINI_EDGE", 1)
        rate = load.count / (sink.last_of(2 * load.count, 600) - began)
    processes.stop_all()
    return rate


@contextmanager
def _edge(postgres: EmbeddedPostgres, folder: Path, ports: layout.Ports) -> Iterator[None]:
    with wire_edge.edge(postgres, folder, actors=("pacs", "workers"), ports=ports) as edge:
        yield
        wait_until(
            lambda: edge.one("SELECT count(*) FROM expected_results WHERE state <> 'arrived'") == 0,
            30,
            "the last result to be matched",
        )
