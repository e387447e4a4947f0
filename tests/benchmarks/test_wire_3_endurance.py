"""Endurance: 20,000 sends, an instance of 2 GiB, 500 idle associations, 400 broken ones."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import pytest
from support import wire_edge, wire_peers
from support.broken_peers import BROKEN, break_off
from support.dicom_peers import ECHO
from support.edge_setup import EdgeSetup
from support.launcher import Processes
from support.synthetic_instances import Instance
from support.waiting import wait_until
from support.wire_data import made, scaled
from support.wire_senders import CONTEXT, percentile
from support.wire_table import Rows

from gateway.dicom.association import PeerAddress
from gateway.dicom.requestor import associate
from gateway.lab import layout, stray_processes
from gateway.lab.postgres import EmbeddedPostgres
from gateway.register.unregistered import backlog

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

GIB = 1 << 30
CHUNK = bytes(1 << 20)


@pytest.mark.parametrize("kind", ["our sink", "storescp"])
def test_many_sends_to_a_fast_peer(kind: str, rows: Rows, processes: Processes, tmp_path: Path) -> None:
    """Send over one association; a missed response would raise, and a stall is visible as the longest."""
    if kind == "storescp":
        port = wire_peers.storescp(processes, tmp_path, "--ignore")
    else:
        port = wire_peers.Sink(processes, tmp_path).port
    peer = PeerAddress("127.0.0.1", port, "SINK", timeout_seconds=30, connect_timeout_seconds=10)
    data = Instance(payload=bytes(3584)).data_set()
    count = scaled(20_000)
    times = []
    with associate(peer, calling_ae_title="BENCH", contexts=[CONTEXT]) as association:
        for number in range(count):
            began = time.perf_counter()
            assert association.store(CONTEXT, f"1.2.{number}", [data]) == (0, "")
            times.append(time.perf_counter() - began)
    rows.within(
        f"{count} sends to {kind}, the longest",
        max(times) * 1000,
        "ms",
        at_most=1000,
        peer=f"{count / sum(times):.0f}/s, none missed",
    )


def test_two_gib(rows: Rows, postgres: EmbeddedPostgres, processes: Processes, tmp_path: Path) -> None:
    """Receive and forward it; print the highest memory of any process of the edge."""
    ports = layout.choose_ports(well_known=False)
    sink = wire_peers.Sink(processes, tmp_path, ports.pacs)
    size = scaled(2048) * len(CHUNK)
    uid = "1.2.826.0.1.2"
    instance = Instance(sop_instance_uid=uid, payload=b"")
    head = instance.data_set()[:-4] + size.to_bytes(4, "little")

    def pieces() -> Iterator[bytes]:
        yield head
        for _ in range(size // len(CHUNK)):
            yield CHUNK

    changes = {"forwarder": {"mode": "pacs_only"}}
    with wire_edge.edge(postgres, tmp_path, changes, actors=("pacs",), ports=ports) as edge:
        with _Watching(edge) as watching, edge.association([CONTEXT]) as association:
            began = time.perf_counter()
            assert association.store(CONTEXT, uid, pieces()) == (0, "")
            sink.wait_for(1, 300)
            seconds = time.perf_counter() - began
        assert edge.one("SELECT data_set_size FROM instances") == size + len(head)
    what = f"{size / GIB:.1f} GiB received and forwarded, most memory of a process"
    rows.within(what, watching.most_mb, "MB", at_most=150, peer=f"{seconds:.1f} s")


class _Watching:
    """Samples the memory of every process of an edge: SCP and actors."""

    def __init__(self, edge: EdgeSetup) -> None:
        self._roots = wire_edge.roots(edge)
        self.most_mb = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        while not self._done.wait(0.05):
            for root in self._roots:
                for pid in (root, *stray_processes.descendants(root)):
                    self.most_mb = max(self.most_mb, wire_edge.resident_mb(pid))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def test_the_lag_of_registration(
    rows: Rows, postgres: EmbeddedPostgres, processes: Processes, tmp_path: Path
) -> None:
    """Small instances at full rate: how long the oldest reception waits for its rows, each 10 s."""
    seconds = scaled(120)
    with wire_edge.edge(postgres, tmp_path) as edge:
        sender = processes.start(
            "python", "-m", "support.wire_load", str(edge.configuration.edge.port), str(seconds), "8",
            PYTHONPATH=str(wire_peers.TESTS),
        )  # fmt: skip
        steps: list[float] = []
        began = time.monotonic()
        while sender.popen.poll() is None:
            oldest = backlog(edge.spool, 10_000).oldest
            lag = 0.0 if oldest is None else (datetime.now(UTC) - oldest).total_seconds()
            step = int((time.monotonic() - began) / 10)
            steps += [0.0] * (step + 1 - len(steps))
            steps[step] = max(steps[step], lag)
            time.sleep(0.1)  # between two samples
        assert sender.popen.returncode == 0, sender.text()
        count = int(sender.text().split()[-1])
        wait_until(lambda: edge.one("SELECT count(*) FROM instances") == count, 30, "the last registration")
    rows.within(
        f"lag of registration over {seconds} s of small instances, 8 assoc.",
        max(steps[len(steps) // 2 :]) * 1000,
        "ms",
        at_most=1000,
        peer=f"{count / seconds:.0f}/s; each 10 s: " + " ".join(f"{1000 * lag:.0f}" for lag in steps),
    )


def test_idle_associations(rows: Rows, postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """500 associations are open and silent for ten seconds; then each stores an instance."""
    instances = made(500, bytes(1000))
    with wire_edge.edge(postgres, tmp_path) as edge, ExitStack() as stack:
        open_ones = [
            stack.enter_context(associate(edge.peer(), calling_ae_title="ORTHANC", contexts=[CONTEXT, ECHO]))
            for _ in instances
        ]
        pids = wire_edge.receivers(edge)
        before = sum(map(wire_edge.cpu_seconds, pids))
        began = time.monotonic()
        time.sleep(10)  # the silence that is measured
        share = (sum(map(wire_edge.cpu_seconds, pids)) - before) / (time.monotonic() - began) * 100
        memory = max(map(wire_edge.resident_mb, pids))
        for association, instance in zip(open_ones, instances, strict=True):
            assert association.store(CONTEXT, instance.sop_instance_uid, [instance.data_set()])[0] == 0
    rows.within("500 idle associations", share, "% of a core", at_most=2, peer=f"{memory:.0f} MB, all served")


def test_broken_associations(rows: Rows, postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """400 in a row with C-ECHOs between them; print the longest C-ECHO, and the growth of memory."""
    count = scaled(400)
    with wire_edge.edge(postgres, tmp_path) as edge:
        pids = wire_edge.receivers(edge)
        before = max(map(wire_edge.resident_mb, pids))
        times = [_broken_then_honest(edge, number) for number in range(count)]
        grown = max(map(wire_edge.resident_mb, pids)) - before
    what = f"C-ECHO beside {count} broken associations"
    rows.within(f"{what}, p100", max(times) * 1000, "ms", at_most=100, peer="stock: 0 of 8 answered")
    rows.within(f"{what}, p50", percentile(times, 0.5) * 1000, "ms", at_most=None)
    rows.within("memory grown by them", grown, "MB", at_most=20)


def _broken_then_honest(edge: EdgeSetup, number: int) -> float:
    break_off(edge.configuration.edge.port, BROKEN[number % len(BROKEN)])
    began = time.perf_counter()
    with associate(edge.peer(), calling_ae_title="ORTHANC", contexts=[ECHO]) as association:
        assert association.echo() == 0
    return time.perf_counter() - began
