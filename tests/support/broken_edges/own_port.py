"""The port of the edge: closed, taken, silent, congested or stopped."""

import signal
import socket
import subprocess
import sys

from gateway.dicom.policy import Rejection
from support.broken_edges.case import Breaking, case
from support.healthy_edge import HealthyEdge
from support.other_servers import saying, serving, silent
from support.waiting import wait_until


@case("port.frozen", ("mini-pacs serve", "state T"), "kill -CONT")
def own_port_stopped(edge: HealthyEdge) -> Breaking:
    """The process that listens is stopped by a signal."""
    edge.port.off()
    program = (
        "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(99)"
    )
    port = edge.configuration.edge.port
    with subprocess.Popen([sys.executable, "-c", program, str(port)]) as listening:
        wait_until(lambda: _listens(port), 10, "the process to listen")
        listening.send_signal(signal.SIGSTOP)
        yield
        listening.kill()
    edge.port.on()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@case("port.closed", "Nothing listens on the edge's own port", "mini-pacs serve")
def own_port_closed(edge: HealthyEdge) -> Breaking:
    """The Storage SCP does not listen."""
    edge.port.off()
    yield
    edge.port.on()


@case("port.taken", ("Another program", "answers HTTP"), ("end that program", "edge.port"))
def own_port_taken(edge: HealthyEdge) -> Breaking:
    """A web server has the port of the edge."""
    edge.port.off()
    with serving(edge.configuration.edge.port, saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")):
        yield
    edge.port.on()


@case("port.silent", "does not answer", "kill -CONT")
def own_port_silent(edge: HealthyEdge) -> Breaking:
    """The Storage SCP is frozen: the kernel accepts connections, and nobody reads."""
    edge.port.off()
    with serving(edge.configuration.edge.port, silent):
        yield
    edge.port.on()


@case("port.congested", "temporary congestion", "outcome rejected")
def own_port_congested(edge: HealthyEdge) -> Breaking:
    """The Storage SCP rejects everybody."""
    edge.port.rejection = Rejection(2, 3, 1, "temporary_congestion")
    yield
    edge.port.rejection = None
