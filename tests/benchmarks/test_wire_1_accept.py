"""Accepting durably, beside DCMTK's storescp, Orthanc and stock pynetdicom; nothing forwards meanwhile."""

from pathlib import Path

import pytest
import wire_bed
import wire_peers
from launcher import Processes
from wire_data import Load, scaled
from wire_senders import dcmsend, one_by_one
from wire_table import Rows

from gateway.dicom.scu import Peer
from gateway.lab.postgres import EmbeddedPostgres

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

TARGETS = {("CT", 1): 2.0, ("CT", 8): 1.5, ("small", 1): 1.5, ("small", 8): 2.5}
"""Times Orthanc, by kind and associations."""


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
    """Instances per second until the sender has its last response."""
    load = loads[kind]
    with wire_bed.edge(postgres, tmp_path) as bed:
        ours = dcmsend(load, bed.configuration.edge.port, "MINI_EDGE", associations)
        assert bed.one("SELECT count(*) FROM instances") == load.count
    rows.figures[f"accept {kind} {associations}"] = ours
    what = f"accept, {kind}, {associations} assoc."
    port = wire_peers.orthanc(processes, tmp_path, nodelay=True)
    orthanc = dcmsend(load, port, "ORTHANC", associations)
    rows.faster(what, ours, than="Orthanc", theirs=orthanc, at_least=TARGETS[kind, associations])
    processes.stop_all()
    storescp = dcmsend(load, wire_peers.storescp(processes, tmp_path, nodelay=True), "ANY", associations)
    least = 0.6 if (kind, associations) == ("CT", 1) else None
    rows.faster(what, ours, than="storescp, no fsync", theirs=storescp, at_least=least)


def test_a_sender_with_nagle(
    loads: dict[str, Load], rows: Rows, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """The same sender with Nagle's algorithm on, and off."""
    rates = {}
    for kind, load in loads.items():
        for nagle in (True, False):
            with wire_bed.edge(postgres, tmp_path) as bed:
                rates[nagle] = dcmsend(load, bed.configuration.edge.port, "MINI_EDGE", 1, nagle=nagle)
        what = f"accept, {kind}, sender with Nagle"
        rows.faster(what, rates[True], than="without", theirs=rates[False], at_least=0.9)


def test_one_association_per_instance(
    loads: dict[str, Load], rows: Rows, postgres: EmbeddedPostgres, processes: Processes, tmp_path: Path
) -> None:
    """Associate, store, release; stock pynetdicom keeps nothing."""
    with wire_bed.edge(postgres, tmp_path) as bed:
        ours = one_by_one(loads["small"].share(scaled(500)), bed.peer())
    port = wire_peers.stock(processes)
    stock = one_by_one(loads["small"].share(scaled(250)), Peer("127.0.0.1", port, "STOCK", 60, 30))
    rows.within("one association per instance", ours, "ms", at_most=10, peer=f"pynetdicom {stock:.0f} ms")
    rows.faster("the same, per second", 1000 / ours, than="pynetdicom", theirs=1000 / stock, at_least=5)
