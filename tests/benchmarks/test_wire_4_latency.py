"""Latency against offered load, for the gateway and for Orthanc: an open loop, see `support.wire_open_loop`.

The time of an instance begins when it should have been sent. It ends with the C-STORE-RSP to the sender, and
with that of the PACS to the router.
"""

from pathlib import Path

import pytest
from support import wire_edge, wire_peers
from support.launcher import Processes
from support.wire_data import QUICK
from support.wire_senders import percentile
from support.wire_table import Rows

from gateway.lab import layout
from gateway.lab.postgres import EmbeddedPostgres

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]

LOADS = (25, 50, 100, 200, 300, 400)
"""Instances per second."""
SECONDS = 2 if QUICK else 4
ASSOCIATIONS = 8
PACS_ONLY = {"forwarder": {"mode": "pacs_only"}}


def test_latency_against_load(
    rows: Rows, postgres: EmbeddedPostgres, processes: Processes, tmp_path: Path
) -> None:
    """Offer each load to each router, on a fresh database; add the table and the plot."""
    for load in LOADS:
        ports = layout.choose_ports(well_known=False)
        sink = wire_peers.Sink(processes, tmp_path, ports.pacs)
        with wire_edge.edge(postgres, tmp_path, PACS_ONLY, actors=("pacs",), ports=ports):
            ours = _times(processes, tmp_path, ports.edge, "MINI_EDGE", load, sink)
        processes.stop_all()
        sink = wire_peers.Sink(processes, tmp_path)
        port = wire_peers.orthanc(processes, tmp_path, route_to=sink.port, nodelay=True)
        theirs = _times(processes, tmp_path, port, "ORTHANC", load, sink)
        processes.stop_all()
        for end, number in (("our response", 0), ("the PACS's response", 1)):
            for share, name in ((0.5, "p50"), (0.99, "p99")):
                mine, its = (percentile(times[number], share) * 1000 for times in (ours, theirs))
                rows.within(
                    f"{load}/s offered, small, to {end}, {name}",
                    mine,
                    "ms",
                    at_most=None,
                    peer=f"Orthanc {its:.3g} ms",
                )
                rows.point("latency", f"gateway, {end}, {name}", load, mine)
                rows.point("latency", f"Orthanc, {end}, {name}", load, its)


def _times(  # noqa: PLR0917  a measurement and where it runs
    processes: Processes, folder: Path, port: int, called: str, load: int, sink: wire_peers.Sink
) -> tuple[list[float], list[float]]:
    """Return the seconds from the intended time to our response, and to that of the PACS."""
    notes = folder / f"open-loop-{called}-{load}.txt"
    sender = processes.start(
        "python", "-m", "support.wire_open_loop", str(port), called, str(load), str(SECONDS),
        str(ASSOCIATIONS), notes, PYTHONPATH=str(wire_peers.TESTS),
    )  # fmt: skip
    assert sender.popen.wait(300) == 0, sender.text()
    sent = [line.split() for line in notes.read_text(encoding="ascii").splitlines()]
    sink.wait_for(len(sent), 120)
    arrived = sink.times()
    answers = [float(answered) - float(intended) for _, intended, answered in sent]
    return answers, [arrived[uid] - float(intended) for uid, intended, _ in sent]
