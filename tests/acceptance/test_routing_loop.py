"""A real Orthanc routes everything that it stores to the edge: no instance is forwarded twice."""

import dataclasses
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeEdge
from support.edge_setup import EdgeSetup
from support.synthetic_instances import Instance, study_of
from support.targets import hospital, owed
from support.waiting import wait_until

from gateway.lab import layout
from gateway.lab.pacs import Orthanc
from gateway.lab.supervisor import Supervisor

ORTHANC = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
ROUTE_ALL = """
function OnStoredInstance(instanceId, tags, metadata, origin)
  SendToModality(instanceId, 'edge')
end
"""


class RoutingOrthanc(Orthanc):
    """An Orthanc that sends every instance that it stores, also one that it had, to the edge."""

    script: Path

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "LuaScripts": [str(self.script)]}


@pytest.fixture
def edge(make_edge: MakeEdge, tmp_path: Path) -> Iterator[EdgeSetup]:
    """Yield an edge with the smallest duplicate window, which alone would let every repeat through."""
    if ORTHANC is None:
        pytest.skip("Orthanc is not installed")
    edge = make_edge({"edge": {"duplicate_window_seconds": 0}})
    orthanc = RoutingOrthanc(ORTHANC, tmp_path / "pacs", edge.configuration, layout.free_ports(1)[0])
    orthanc.script = tmp_path / "route.lua"
    orthanc.script.write_text(ROUTE_ALL)
    supervisor = Supervisor(tmp_path / "lab", [[orthanc.program()]])
    supervisor.start()
    try:
        yield edge
    finally:
        edge.kill()
        supervisor.stop()


@pytest.fixture
def two_archives(make_edge: MakeEdge, tmp_path: Path) -> Iterator[EdgeSetup]:
    """Yield an edge without a duplicate window and two Orthancs, which send it all that they store."""
    if ORTHANC is None:
        pytest.skip("Orthanc is not installed")
    edge = hospital(make_edge, window=0, mode="pacs_only")
    forwarder = edge.configuration.forwarder
    programs = []
    for archive in forwarder.all_archives[:2]:
        of_archive = edge.configuration.model_copy(
            update={"forwarder": forwarder.model_copy(update={"orthanc": archive})}
        )
        folder = tmp_path / archive.ae_title
        orthanc = RoutingOrthanc(ORTHANC, folder, of_archive, layout.free_ports(1)[0])
        orthanc.script = tmp_path / "route.lua"
        orthanc.script.write_text(ROUTE_ALL)
        programs.append(dataclasses.replace(orthanc.program(), name=archive.ae_title))
    supervisor = Supervisor(tmp_path / "lab", [programs])
    supervisor.start()
    try:
        yield edge
    finally:
        edge.kill()
        supervisor.stop()


def receptions(edge: EdgeSetup, instance: Instance) -> list[str]:
    """Return the outcome of each reception of the instance, from the edge's log."""
    lines = edge.log(stage="queue", sop_instance_uid=instance.sop_instance_uid)
    return [line["outcome"] for line in lines if "destination" not in line and "delivery_id" not in line]


def wait_back(edge: EdgeSetup, *instances: Instance) -> None:
    """Orthanc sent each of them to the edge, which delivered each."""
    for instance in instances:
        wait_until(lambda one=instance: len(receptions(edge, one)) > 1, 30, "it to come back")  # type: ignore[misc]
        edge.wait_state(instance, "delivered")


@pytest.mark.guarantee("G4")
@pytest.mark.skipif(ORTHANC is None, reason="Orthanc is not installed")
def test_a_pacs_that_routes_everything_to_the_edge_makes_no_loop(edge: EdgeSetup) -> None:
    """Each instance is received, delivered, and received back; then nothing more is sent."""
    edge.serve()
    edge.actors("pacs")
    instances = study_of(3)
    assert edge.send(*instances) == [0, 0, 0]
    wait_back(edge, *instances)
    # A later instance makes the whole way while the first ones would go on circling.
    for _ in range(3):
        [later] = study_of(1)
        assert edge.send(later) == [0]
        wait_back(edge, later)
    for instance in instances:
        first, second = receptions(edge, instance)
        assert first == "stored"
        assert second in {"duplicate", "not_forwarded"}
    assert edge.queued("pacs") == 0


@pytest.mark.guarantee("G4")
@pytest.mark.skipif(ORTHANC is None, reason="Orthanc is not installed")
def test_two_archives_that_route_everything_to_the_edge_make_no_circle(two_archives: EdgeSetup) -> None:
    """What one sends back is not sent to the other: each gets an instance once, whatever the window."""
    edge = two_archives
    edge.run("UPDATE destinations SET paused = true WHERE ae_title = 'RES'")
    edge.serve()
    edge.actors("pacs", "archives")
    both = {"pacs ORTHANC": "delivered", "archives VNA": "delivered"}

    def is_back(instance: Instance) -> bool:
        return len(receptions(edge, instance)) > 2 and both.items() <= owed(edge, instance).items()

    instances = study_of(3)
    assert edge.send(*instances, calling="CT1") == [0, 0, 0]
    for instance in instances:
        wait_until(partial(is_back, instance), 60, "both archives to send it back")
    # Later instances make the whole way while the first ones would go on circling.
    for _ in range(3):
        [later] = study_of(1)
        assert edge.send(later, calling="CT1") == [0]
        wait_until(partial(is_back, later), 60, "both archives to send it back")
    for instance in instances:
        first, *repeats = receptions(edge, instance)
        assert first == "stored"
        assert len(repeats) == 2
        assert set(repeats) <= {"duplicate", "not_forwarded"}
    attempts = (
        "SELECT count(*) FROM attempts a JOIN deliveries d ON d.id = a.delivery_id WHERE d.target <> 'RES'"
    )
    assert edge.one(attempts) == 2 * 6
