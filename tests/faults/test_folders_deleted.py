"""Somebody deletes the folders of the spool under the running edge: they are there again, and all goes on."""

import shutil

import pytest
from conftest import MakeEdge
from support.edge_setup import EdgeSetup
from support.synthetic_instances import Instance
from support.waiting import wait_until

from gateway.errors import PeerError
from gateway.spool.spool import FOLDERS

pytestmark = [pytest.mark.guarantee("G1"), pytest.mark.guarantee("G6")]


def is_received(edge: EdgeSetup, instance: Instance) -> bool:
    """Send it as a modality does; tell whether it was answered Success."""
    try:
        return edge.send(instance) == [0]
    except PeerError:
        return False


def test_deleted_folders_are_made_again_and_said(make_edge: MakeEdge) -> None:
    """The log names each; the receiver whose folder is gone is replaced; no Success was given meanwhile."""
    edge = make_edge({"edge": {"receivers": 1}, "forwarder": {"mode": "pacs_only"}})
    edge.serve()
    root = edge.configuration.edge.data_root
    before, after = Instance(), Instance()
    assert edge.send(before) == [0]
    edge.settle()
    for name in FOLDERS:
        if name != "incoming":  # it holds what was received before
            shutil.rmtree(root / name)
    assert "was deleted" in edge.wait_log(outcome="receiver_moves", timeout=30)["detail"]
    wait_until(lambda: is_received(edge, after), 30, "the SCP to receive again")
    deleted = {f"{root / name} was gone; it is there again" for name in FOLDERS if name != "incoming"}
    wait_until(
        lambda: deleted <= {line["detail"] for line in edge.log(outcome="folder_made")}, 30, "every folder"
    )
    assert {(root / name).stat().st_mode & 0o777 for name in FOLDERS} == {0o750}
    edge.settle()
    edge.check_ledger([before, after])
