"""Durable reception beside other Orthancs: with its index in PostgreSQL, and of a later version.

Orthanc with SQLite, as Debian 12 has it, is measured in test_wire_1_accept.py.
"""

from pathlib import Path

import pytest
from support import wire_edge, wire_peers
from support.launcher import Processes
from support.wire_comparison import in_turn
from support.wire_data import Load
from support.wire_peers import OrthancProgram
from support.wire_senders import dcmsend
from support.wire_table import Rows

from gateway.lab.postgres import EmbeddedPostgres

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

ASSOCIATIONS = 8
DATABASE = "orthanc_index"


@pytest.mark.parametrize("index", ["SQLite", "PostgreSQL"])
@pytest.mark.parametrize("age", ["installed", "newer"])
@pytest.mark.parametrize("kind", ["CT", "small"])
def test_accept_beside_another_orthanc(  # noqa: PLR0917  fixtures
    kind: str,
    age: str,
    index: str,
    loads: dict[str, Load],
    rows: Rows,
    postgres: EmbeddedPostgres,
    processes: Processes,
    tmp_path: Path,
) -> None:
    """Measure instances per second over eight associations, in turn with the edge."""
    program = wire_peers.installed_orthanc() if age == "installed" else wire_peers.newer_orthanc()
    if program is None:
        pytest.skip("`make newer-orthanc` was not run")
    if age == "installed" and index == "SQLite":
        pytest.skip("measured in test_wire_1_accept.py")
    server = postgres if index == "PostgreSQL" else None
    if server is not None and program.postgresql is None:
        pytest.skip(f"Orthanc {program.version} has no plugin: install orthanc-postgresql")
    load = loads[kind]
    ours, theirs = in_turn(
        lambda: wire_edge.accept_rate(load, ASSOCIATIONS, postgres, tmp_path),
        lambda: _orthanc(load, program, server, processes, tmp_path),
    )
    what = f"accept, {kind}, {ASSOCIATIONS} assoc., beside Orthanc {program.version} with {index}"
    rows.faster(what, ours, than="Orthanc", theirs=theirs, at_least=1.0)


def _orthanc(
    load: Load, program: OrthancProgram, postgres: EmbeddedPostgres | None, processes: Processes, folder: Path
) -> float:
    index = None
    if postgres is not None:
        postgres.create_database(DATABASE)
        index = postgres.dsn(DATABASE)
    try:
        port = wire_peers.orthanc(processes, folder, nodelay=True, program=program, index=index)
        return dcmsend(load, port, "ORTHANC", ASSOCIATIONS)
    finally:
        processes.stop_all()
        if postgres is not None:
            postgres.drop_database(DATABASE)
