"""G7: broken associations hold no memory and no capacity; well-behaved senders are served meanwhile."""

from contextlib import ExitStack

from conftest import MakeEdge
from support.broken_peers import BROKEN, break_off, held_open
from support.dicom_peers import ECHO
from support.edge_setup import EdgeSetup, children
from support.wire_edge import resident_mb

COUNT = 400
GROWTH_MB = 20
"""Growth of memory that is allowed: threads come and go, and the allocator keeps some of their memory."""


def _echo(edge: EdgeSetup) -> None:
    """Expect an answer to a C-ECHO; it must come within the timeouts of `EdgeSetup.peer`."""
    with edge.association([ECHO]) as association:
        assert association.echo() == 0


def test_broken_associations_in_a_row(make_edge: MakeEdge) -> None:
    """Open 400 broken associations of every kind: C-ECHOs between them are answered, memory stays flat."""
    edge = make_edge()
    edge.serve()
    _echo(edge)
    port = edge.configuration.edge.port
    for harm in BROKEN:
        break_off(port, harm)
    before = [resident_mb(pid) for pid in children(edge.scp.pid)]
    for number in range(COUNT):
        break_off(port, BROKEN[number % len(BROKEN)])
        _echo(edge)
    after = [resident_mb(pid) for pid in children(edge.scp.pid)]
    assert max(now - then for now, then in zip(after, before, strict=True)) < GROWTH_MB


def test_broken_associations_held_open(make_edge: MakeEdge) -> None:
    """200 connections that never end do not block other senders.

    The edge's timeouts are longer than those of a C-ECHO, so that it would fail if it waited for one of them.
    """
    edge = make_edge({"edge": {"artim_timeout_seconds": 120, "network_timeout_seconds": 120}})
    edge.serve()
    _echo(edge)
    with ExitStack() as stack:
        for number in range(200):
            stack.enter_context(held_open(edge.configuration.edge.port, BROKEN[number % len(BROKEN)]))
            if number % 10 == 0:
                _echo(edge)
        _echo(edge)
