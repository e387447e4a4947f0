"""Durable reception, compared with DCMTK's storescp, Orthanc and stock pynetdicom; nothing is forwarded.

All compared measurements run in turn, and the median of the rounds counts (`in_turn`).
"""

from pathlib import Path

import pytest
from support import wire_edge, wire_peers
from support.launcher import Processes
from support.wire_comparison import in_turn
from support.wire_data import Load, scaled
from support.wire_durability import kept_per_second
from support.wire_senders import dcmsend, one_by_one
from support.wire_table import Rows

from gateway.dicom.association import PeerAddress
from gateway.lab.postgres import EmbeddedPostgres

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

TARGETS = {("CT", 1): 1.8, ("CT", 8): 1.5, ("small", 1): 1.3, ("small", 8): 1.4}
"""The required multiple of Orthanc's rate, by kind and associations."""


def _orthanc(load: Load, associations: int, processes: Processes, folder: Path) -> float:
    rate = dcmsend(load, wire_peers.orthanc(processes, folder, nodelay=True), "ORTHANC", associations)
    processes.stop_all()
    return rate


def _storescp(load: Load, associations: int, processes: Processes, folder: Path) -> float:
    rate = dcmsend(load, wire_peers.storescp(processes, folder, nodelay=True), "ANY", associations)
    processes.stop_all()
    return rate


@pytest.mark.parametrize("associations", [1, 8])
@pytest.mark.parametrize("kind", ["CT", "small"])
def test_accept(  # noqa: PLR0917  fixtures
    kind: str,
    associations: int,
    loads: dict[str, Load],
    rows: Rows,
    postgres: EmbeddedPostgres,
    processes: Processes,
    tmp_path: Path,
) -> None:
    """Measure instances per second until the sender has its last response."""
    load = loads[kind]
    ours, theirs, unflushed = in_turn(
        lambda: wire_edge.accept_rate(load, associations, postgres, tmp_path),
        lambda: _orthanc(load, associations, processes, tmp_path),
        lambda: _storescp(load, associations, processes, tmp_path),
    )
    what = f"accept, {kind}, {associations} assoc."
    rows.faster(what, ours, than="Orthanc", theirs=theirs, at_least=TARGETS[kind, associations])
    least = 0.6 if (kind, associations) == ("CT", 1) else None
    rows.faster(what, ours, than="storescp, no fsync", theirs=unflushed, at_least=least)


@pytest.mark.parametrize("kind", ["CT", "small"])
def test_the_cost_of_durability(
    kind: str,
    loads: dict[str, Load],
    rows: Rows,
    processes: Processes,
    tmp_path: Path,
) -> None:
    """Measure writing and flushing one by one, without DICOM: the limit of one association."""
    load = loads[kind]
    ours, theirs = in_turn(
        lambda: kept_per_second(load, tmp_path), lambda: _orthanc(load, 1, processes, tmp_path)
    )
    what = f"G1 alone, {kind}: written, flushed"
    rows.faster(what, ours, than="Orthanc, 1 assoc.", theirs=theirs, at_least=None)


@pytest.mark.parametrize("kind", ["CT", "small"])
def test_a_sender_with_nagle(
    kind: str, loads: dict[str, Load], rows: Rows, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Measure the same sender with Nagle's algorithm on, and off."""
    load = loads[kind]
    with_nagle, without = in_turn(
        lambda: wire_edge.accept_rate(load, 1, postgres, tmp_path, nagle=True),
        lambda: wire_edge.accept_rate(load, 1, postgres, tmp_path),
    )
    what = f"accept, {kind}, sender with Nagle"
    rows.faster(what, with_nagle, than="without", theirs=without, at_least=0.9)


def test_one_association_per_instance(
    loads: dict[str, Load], rows: Rows, postgres: EmbeddedPostgres, processes: Processes, tmp_path: Path
) -> None:
    """Measure associate, store and release; stock pynetdicom keeps nothing."""
    with wire_edge.edge(postgres, tmp_path) as edge:
        ours = one_by_one(loads["small"].share(scaled(500)), edge.peer())
    port = wire_peers.stock(processes)
    stock = one_by_one(loads["small"].share(scaled(250)), PeerAddress("127.0.0.1", port, "STOCK", 60, 30))
    rows.within("one association per instance", ours, "ms", at_most=10, peer=f"pynetdicom {stock:.0f} ms")
    rows.faster("the same, per second", 1000 / ours, than="pynetdicom", theirs=1000 / stock, at_least=5)
