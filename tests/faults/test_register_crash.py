"""The SCP is killed while it registers repeats and versions: nothing is lost, doubled or left behind."""

import os
import signal
from contextlib import suppress

import pytest
from conftest import MakeEdge
from support.edge_setup import TESTS, EdgeSetup, store
from support.launcher import REPOSITORY
from support.synthetic_instances import Instance
from support.waiting import wait_until

from gateway.errors import PeerError
from gateway.register.unregistered import backlog

pytestmark = [pytest.mark.guarantee("G1"), pytest.mark.guarantee("G4"), pytest.mark.guarantee("G6")]

STEPS = [
    f"{call}:{number}:{when}"
    for call, numbers in {"receive": (2, 3), "unlink": (2, 3, 4)}.items()
    for number in numbers
    for when in ("before", "after")
]
"""Statements, which commit, and removals of a link or of the file of a repeat; each before and after.

The first unlink belongs to the start.
"""


def send_each(edge: EdgeSetup, instances: list[Instance]) -> list[Instance]:
    """Send until the SCP dies, and wait after each instance until it is registered."""
    acknowledged: list[Instance] = []
    with suppress(PeerError), edge.association([instances[0].context]) as association:
        for instance in instances:
            if store(association, instance)[0] != 0:
                break
            acknowledged.append(instance)
            wait_until(
                lambda: edge.scp.popen.poll() is not None or backlog(edge.spool, 1).count == 0,
                20,
                "the registration, or the death",
                every=0.005,
            )
    return acknowledged


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("by", ["the next SCP", "the sweep"])
def test_a_kill_while_repeats_and_versions_are_registered(make_edge: MakeEdge, step: str, by: str) -> None:
    """G1, G4, G6: what was answered Success is registered once, without a repeat by the sender."""
    grace = {"orphan_grace_seconds": 0.001, "reconcile_grace_seconds": 0.001}
    edge = make_edge({"edge": {"receivers": 1}, "sweep": grace})
    first = Instance()
    version = Instance(first.sop_instance_uid, first.study_instance_uid, payload=b"\x07\x08" * 64)
    sent = [first, first, version, version, first]
    path = {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{TESTS}"}
    crashing = edge.serve("python", TESTS / "support" / "crashing_serve.py", CRASH_AT=step, **path)
    acknowledged = send_each(edge, sent)
    assert crashing.wait() == -signal.SIGKILL
    assert acknowledged
    if by == "the next SCP":
        edge.serve()
        wait_until(lambda: backlog(edge.spool, 1).count == 0, 20, "all to be registered")
        edge.scp.stop()
    edge.heal()
    digests = {instance.digest for instance in acknowledged}
    edge.check_ledger({instance.digest: instance for instance in acknowledged}.values())
    # One that was not answered may be registered too: the sender would have sent it again.
    registered = edge.one("SELECT count(*) FROM instances")
    assert registered in {len(digests), min(2, len(digests) + 1)}
    assert edge.one("SELECT count(*) FROM deliveries") == 2 * registered
    receptions = edge.one("SELECT count(*) FROM instances") + edge.one("SELECT count(*) FROM repeats")
    assert receptions in {len(acknowledged), len(acknowledged) + 1}
    assert edge.one("SELECT sum(repeats) FROM instances") == edge.one("SELECT count(*) FROM repeats")
    rows = {row[0] for row in edge.rows("SELECT place::text || '/' || file_name FROM instances")}
    assert set(edge.files(partial=True)) == rows
