"""A real Orthanc routes everything that it stores to the edge: no instance is forwarded twice.

ROUTING_LOOP_SECONDS is how long each test goes on sending: a few rounds by default, 3600 for an hour.
"""

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
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
SECONDS = float(os.environ.get("ROUTING_LOOP_SECONDS", "0"))
ROUNDS = 3
"""How many instances are sent later at least."""
pytestmark = pytest.mark.timeout(SECONDS + 180)

RECEIVED = """
SELECT count(*) + (SELECT count(*) FROM repeats p JOIN instances o ON o.id = p.instance_id
                   WHERE o.sop_instance_uid = %(uid)s)
FROM instances i WHERE i.sop_instance_uid = %(uid)s
"""
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


def receptions(edge: EdgeSetup, instance: Instance) -> int:
    """Return how often the edge has received the instance, by its rows."""
    return int(edge.one(RECEIVED, uid=instance.sop_instance_uid))


def circle(edge: EdgeSetup, *, calling: str, back: int, delivered: dict[str, str]) -> list[Instance]:
    """Send instances one after the other; each must come back `back` times before the next one is sent.

    A later instance makes the whole way while earlier ones would go on circling. Return all.
    """

    def is_back(instance: Instance) -> bool:
        return receptions(edge, instance) > back and delivered.items() <= owed(edge, instance).items()

    began = monotonic()
    sent = study_of(3)
    assert edge.send(*sent, calling=calling) == [0, 0, 0]
    while len(sent) < 3 + ROUNDS or monotonic() - began < SECONDS:
        [later] = study_of(1)
        assert edge.send(later, calling=calling) == [0]
        sent.append(later)
        wait_until(lambda one=later: is_back(one), 60, "it to come back")  # type: ignore[misc]
    for instance in sent[:3]:
        wait_until(lambda one=instance: is_back(one), 60, "it to come back")  # type: ignore[misc]
    return sent


def assert_no_circle(edge: EdgeSetup, sent: list[Instance], *, archives: int) -> None:
    """Each instance was received once from its sender and once from each archive, and sent to each once."""
    assert {receptions(edge, one) for one in sent} == {1 + archives}
    assert edge.one("SELECT count(*) FROM instances") == len(sent)
    attempts = "SELECT count(*) FROM attempts a JOIN deliveries d ON d.id = a.delivery_id"
    assert edge.one(f"{attempts} WHERE d.target <> 'RES' AND d.route <> 'workers'") == archives * len(sent)


@pytest.mark.guarantee("G4")
@pytest.mark.skipif(ORTHANC is None, reason="Orthanc is not installed")
def test_a_pacs_that_routes_everything_to_the_edge_makes_no_loop(edge: EdgeSetup) -> None:
    """Each instance is received, delivered, and received back; then nothing more is sent."""
    edge.serve()
    edge.actors("pacs")
    sent = circle(edge, calling="ORTHANC", back=1, delivered={"pacs ORTHANC": "delivered"})
    assert_no_circle(edge, sent, archives=1)
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
    sent = circle(edge, calling="CT1", back=2, delivered=both)
    assert_no_circle(edge, sent, archives=2)
