"""An edge with three archives and two applications, and its peers."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from conftest import MakeEdge

from gateway.lab import layout
from support.edge_setup import EdgeSetup
from support.forwarding import QUICK
from support.peers import Peer, peer
from support.synthetic_instances import Instance

OWED = """
SELECT d.route || ' ' || d.target, d.state::text FROM deliveries d JOIN instances i ON i.id = d.instance_id
WHERE i.sop_instance_uid = %(uid)s ORDER BY i.id, d.id
"""


def forwarder(**changes: Any) -> dict[str, Any]:
    """Return the section: VNA gets all, RES no results; APP02 serves both applications."""
    host = {"host": layout.LOOPBACK, "timeout_s": 10}
    vna, research, first, second, third = layout.free_ports(5)
    workers = {
        title: {**host, "port": port, "ae_title": title}
        for title, port in (("APP01", first), ("APP02", second), ("APP03", third))
    }
    return {
        **QUICK,
        "archives": [
            {**host, "port": vna, "ae_title": "VNA"},
            {**host, "port": research, "ae_title": "RES", "results": False},
        ],
        "workers": [],
        "applications": {
            "chest-ct": {"workers": [workers["APP01"], workers["APP02"]], "result_timeout_seconds": 600},
            "any-mr": {"workers": [workers["APP02"], workers["APP03"]], "max_outstanding": 1},
        },
        **changes,
    }


def hospital(make_edge: MakeEdge, *, window: float = 30, **changes: Any) -> EdgeSetup:
    """Return an edge with these targets; `changes` replace keys of its section forwarder."""
    titles = ["ORTHANC", "VNA", "RES", "CT1", "APP01", "APP02", "APP03"]
    edge = {"allowed_calling_aets": titles, "duplicate_window_seconds": window}
    return make_edge({"edge": edge, "forwarder": forwarder(**changes)})


@contextmanager
def peers_of(edge: EdgeSetup) -> Iterator[dict[str, Peer]]:
    """Yield every destination, listening, by AE title."""
    with ExitStack() as stack:
        yield {one.ae_title: stack.enter_context(peer(one.port)) for one in edge.configuration.destinations}


def owed(edge: EdgeSetup, instance: Instance) -> dict[str, str]:
    """Return the state of each delivery of an instance, by route and target."""
    return dict(edge.rows(OWED, uid=instance.sop_instance_uid))
