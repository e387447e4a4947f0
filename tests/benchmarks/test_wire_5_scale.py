"""How the rate of accepting changes with associations and receivers; what memory an association takes."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from support import wire_edge, wire_peers
from support.dicom_peers import ECHO
from support.launcher import Processes
from support.wire_comparison import ROUNDS, in_turn
from support.wire_data import CT_BYTES, SMALL_BYTES, made, scaled
from support.wire_senders import CONTEXT
from support.wire_table import Rows

from gateway.dicom.requestor import associate
from gateway.lab.postgres import EmbeddedPostgres

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]

MANY = 64
"""At this number the rates of edge and Orthanc are closest, so it is measured in several rounds."""
OPEN = 200
"""How many associations are opened to measure the memory of one."""
SIZES = {"CT": (640, CT_BYTES), "small": (2048, SMALL_BYTES)}
"""How many instances are sent, and the bytes of their pixels."""


def _burst(kind: str, processes: Processes, port: int, called: str, associations: int) -> float:
    """Return the instances per second of `support.wire_burst`."""
    count, size = SIZES[kind]
    os.sync()  # else our fsync would also write the data of the measurement before
    sender = processes.start(
        "python", "-m", "support.wire_burst", str(port), called, str(associations),
        str(max(associations, scaled(count))), str(size), PYTHONPATH=str(wire_peers.TESTS),
    )  # fmt: skip
    assert sender.popen.wait(900) == 0, sender.text()
    return float(sender.text().split()[-1])


def _rate(  # noqa: PLR0917  a measurement and where it runs
    kind: str,
    associations: int,
    postgres: EmbeddedPostgres,
    processes: Processes,
    folder: Path,
    receivers: int = 0,
) -> float:
    changes = {"edge": {"receivers": receivers}}
    with wire_edge.edge(postgres, folder, changes) as edge:
        return _burst(kind, processes, edge.configuration.edge.port, "MINI_EDGE", associations)


@pytest.mark.parametrize("kind", ["CT", "small"])
@pytest.mark.parametrize("associations", [1, 4, 16, MANY])
def test_associations(  # noqa: PLR0917  fixtures
    kind: str,
    associations: int,
    rows: Rows,
    postgres: EmbeddedPostgres,
    processes: Processes,
    tmp_path: Path,
) -> None:
    """Measure instances per second with that many senders at once."""

    def theirs() -> float:
        port = wire_peers.orthanc(processes, tmp_path, nodelay=True)
        rate = _burst(kind, processes, port, "ORTHANC", associations)
        processes.stop_all()
        return rate

    rounds = ROUNDS if associations == MANY else 1
    ours, its = in_turn(
        lambda: _rate(kind, associations, postgres, processes, tmp_path), theirs, rounds=rounds
    )
    what = f"accept, {kind}, {associations} associations at once"
    rows.faster(what, ours, than="Orthanc", theirs=its, at_least=1)


@pytest.mark.parametrize("kind", ["CT", "small"])
def test_receivers(
    kind: str, rows: Rows, postgres: EmbeddedPostgres, processes: Processes, tmp_path: Path
) -> None:
    """Measure 16 associations to 1, 2 and 4 receivers."""
    rates = in_turn(*(
        lambda count=count: _rate(kind, 16, postgres, processes, tmp_path, count)
        for count in (1, 2, 4)
    ), rounds=1)  # fmt: skip
    for count, rate in zip((2, 4), rates[1:], strict=True):
        rows.faster(
            f"accept, {kind}, {count} receivers", rate, than="one receiver", theirs=rates[0], at_least=None
        )


def test_the_memory_of_an_association(rows: Rows, postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """Open associations, let each store an instance, and divide what the receivers grew by."""
    instances = made(scaled(OPEN), bytes(1000))
    with wire_edge.edge(postgres, tmp_path) as edge, ExitStack() as stack:
        pids = wire_edge.receivers(edge)
        before = sum(map(wire_edge.resident_mb, pids))
        for instance in instances:
            association = stack.enter_context(
                associate(edge.peer(), calling_ae_title="ORTHANC", contexts=[CONTEXT, ECHO])
            )
            assert association.store(CONTEXT, instance.sop_instance_uid, [instance.data_set()])[0] == 0
        grown = sum(map(wire_edge.resident_mb, pids)) - before
    rows.within(
        f"memory of one association, of {len(instances)} that are open",
        grown * 1000 / len(instances),
        "KB",
        at_most=None,
    )
