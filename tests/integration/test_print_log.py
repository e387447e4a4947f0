"""`mini-pacs serve --print-log`: what the container of the SCP prints, and how it ends."""

import json
import signal

from conftest import MakeEdge
from support.synthetic_instances import Instance
from support.waiting import wait_until

from gateway.lab import stray_processes


def test_the_log_of_all_processes_is_printed_to_the_last_line(make_edge: MakeEdge) -> None:
    """Lines of the SCP and of another process, as JSON and once each; SIGTERM ends both with 0."""
    edge = make_edge()
    scp = edge.start("mini-pacs", "serve", "--print-log")
    scp.wait_for_line('"outcome":"listening"', 30)
    instance = Instance()
    assert edge.send(instance) == [0]
    actors = edge.actors("sweep")
    scp.wait_for_line('"outcome":"actors_ready"', 30)
    for process in actors:
        process.stop()
    assert scp.stop() == 0
    lines = [json.loads(line) for line in scp.text().splitlines()]
    assert [line["outcome"] for line in lines][-1] == "stopped"
    assert lines == [json.loads(line) for line in edge.configuration.edge.log_path.read_text().splitlines()]


def test_the_printing_process_ends_when_the_scp_dies(make_edge: MakeEdge) -> None:
    """The supervisor watches the printing process, and so notices that the SCP died."""
    edge = make_edge()
    scp = edge.start("mini-pacs", "serve", "--print-log")
    scp.wait_for_line('"outcome":"listening"', 30)
    [parent, *_] = stray_processes.descendants(scp.pid)
    stray_processes.send([parent], signal.SIGKILL)
    wait_until(lambda: scp.popen.poll() is not None, 10, "the end of who printed")
    assert scp.popen.returncode != 0
