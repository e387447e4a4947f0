"""Processes that do not run, are frozen, or have another configuration, spool or clock."""

import resource
import socket
import subprocess
from datetime import timedelta

from gateway.database.tables.processes import ProcessKind
from support.broken_edges.case import Breaking, case
from support.healthy_edge import HealthyEdge
from support.synthetic_instances import Instance


@case("processes.receiver", "No Storage SCP is connected", "mini-pacs serve")
def no_receiver(edge: HealthyEdge) -> Breaking:
    """`serve` does not run."""
    edge.receiver.close()
    yield
    edge.start_receiver()


@case("processes.actors:pacs", "serves the queue pacs", "dramatiq actors -Q pacs")
def no_actors(edge: HealthyEdge) -> Breaking:
    """No actor process takes what waits for the PACS."""
    edge.stop_actors("pacs")
    edge.core.owed(Instance())
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'workers'")
    yield
    edge.start_actors("pacs")
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'pacs'")
    edge.edge.run("DELETE FROM dramatiq.queue")


@case("processes.queue:reports", "No process consumes the queue reports", "queue discard --queue reports")
def queue_without_process(edge: HealthyEdge) -> Breaking:
    """Messages wait in a queue that no process consumes."""
    edge.edge.run(
        "INSERT INTO dramatiq.queue (message_id, queue_name, message, due)"
        " VALUES (gen_random_uuid(), 'reports', '{}', now() - interval '1 hour')"
    )
    yield
    edge.edge.run("DELETE FROM dramatiq.queue")


@case("sweep.late", "The sweep ran last", "periodiq actors")
def sweep_late(edge: HealthyEdge) -> Breaking:
    """The scheduler died."""
    edge.edge.run("UPDATE sweeps SET ran_at = now() - interval '1 hour'")
    yield
    edge.sweep()


@case("sweep.never", "The sweep never ran", "periodiq actors")
def sweep_never(edge: HealthyEdge) -> Breaking:
    """The scheduler was never started."""
    edge.edge.run("DELETE FROM sweeps")
    yield
    edge.sweep()


@case("processes.serve", ("MINI_EDGE:11112", "EDGE2:11113"), ("kill 4712", "config reload"))
def two_configurations_run(edge: HealthyEdge) -> Breaking:
    """Somebody started `mini-pacs serve` with a copy of config.yaml and another port."""
    edge.beat(ProcessKind.SERVE, 4711, serves="MINI_EDGE:11112", age=timedelta(hours=1))
    edge.beat(ProcessKind.SERVE, 4712, serves="EDGE2:11113", age=timedelta(minutes=1))
    yield
    edge.forget_processes()


@case("process.frozen:", ("receiver", "is frozen"), "kill -CONT 4711")
def receiver_frozen(edge: HealthyEdge) -> Breaking:
    """A receiver holds its connection, and writes no heartbeat."""
    edge.beat(ProcessKind.RECEIVER, 4711)
    edge.edge.run("UPDATE processes SET beat_at = beat_at - interval '1 minute'")
    yield
    edge.forget_processes()


@case(
    "process.open_files:",
    ("receiver", "its limit of open files is 1"),
    ("LimitNOFILE", "edge.max_associations"),
)
def receiver_without_open_files(edge: HealthyEdge) -> Breaking:
    """A receiver has as many connections as its limit of open files allows."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"loaded\n")
    process.stdin.flush()
    process.stdout.readline()
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (1, 1))
    edge.beat(ProcessKind.RECEIVER, process.pid)
    edge.edge.run("UPDATE processes SET host = %(host)s", host=socket.gethostname())
    yield
    process.communicate(timeout=30)
    edge.forget_processes()


@case("process.configuration:", ("actors", "another configuration"), ("MINI_PACS_CONFIG", "restart"))
def actors_with_another_configuration(edge: HealthyEdge) -> Breaking:
    """Actors were started with another config.yaml than the receivers."""
    edge.beat(ProcessKind.RECEIVER, 4711, configuration_digest=edge.configuration.digest)
    edge.beat(ProcessKind.ACTORS, 4712, configuration_digest="another")
    yield
    edge.forget_processes()


@case("configuration.not_loaded", "is not the configuration that the 2 running processes use", "restart")
def configuration_not_loaded(edge: HealthyEdge) -> Breaking:
    """config.yaml was edited, and no process was restarted."""
    edge.beat(ProcessKind.RECEIVER, 4711, configuration_digest="as it was")
    edge.beat(ProcessKind.ACTORS, 4712, configuration_digest="as it was")
    yield
    edge.forget_processes()


@case("process.other_spool:", "another spool", "edge.data_root")
def actors_with_another_spool(edge: HealthyEdge) -> Breaking:
    """Actors were started with another edge.data_root."""
    edge.beat(ProcessKind.RECEIVER, 4711, spool_name="6d4b1b9e-7d0a-4b52-b2f6-0b9b2d6b3a01")
    edge.beat(ProcessKind.ACTORS, 4712, spool_name="6d4b1b9e-7d0a-4b52-b2f6-0b9b2d6b3a02")
    yield
    edge.forget_processes()


@case("process.spool:", ("cannot write the spool as user pacs", "Permission denied"), "chown")
def spool_not_writable_for_a_process(edge: HealthyEdge) -> Breaking:
    """The user of a process may not write the spool."""
    edge.beat(ProcessKind.ACTORS, 4712, spool_problem="create a file in /data: Permission denied")
    yield
    edge.forget_processes()


@case("process.clock:", "5.0 s ahead of that of PostgreSQL", "NTP")
def clock_ahead(edge: HealthyEdge) -> Breaking:
    """The clock of a host is wrong."""
    edge.beat(ProcessKind.RECEIVER, 4711, clock_offset_ms=5000.0)
    yield
    edge.forget_processes()
