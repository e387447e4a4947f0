"""Edges that are broken in one way each: how to break one, what a diagnosis must say, how to mend it.

A case is a generator. It breaks the edge before its `yield`, which gives the finding. After the `yield` it
applies the remedy that the finding names.
"""

import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from gateway.config.destination import DestinationTls
from gateway.config.operation import Notify, Webhook
from gateway.database.tables import decisions, faults, findings
from gateway.database.tables.decisions import Decided
from gateway.database.tables.processes import ProcessKind
from gateway.diagnosis import sessions
from gateway.dicom.policy import CALLED_AE_TITLE_NOT_RECOGNIZED, CALLING_AE_TITLE_NOT_RECOGNIZED, Rejection
from gateway.domain.instance import Kind
from gateway.domain.refusal import Reason
from gateway.domain.routing import Route, Target
from gateway.faults import Active, Name
from gateway.forward.deliver import forward_to_pacs
from gateway.rules.language import parse
from support import certificates
from support.forwarding import ask
from support.healthy_edge import HealthyEdge
from support.peers import ABORT
from support.prepared_instances import PreparedInstances
from support.synthetic_instances import Instance
from support.waiting import wait_until

Breaking = Generator[None, Any, None]
"""What a case returns; `send` gives it the finding."""


@dataclass(frozen=True)
class Case:
    """One broken edge."""

    name: str
    key: str
    what: tuple[str, ...]
    remedy: tuple[str, ...]
    breaking: Callable[..., Breaking]

    @property
    def subject(self) -> str:
        """The subject of the finding: cases of one subject share an edge."""
        return re.split(r"[.:]", self.key)[0]


CASES: list[Case] = []
PRIVATE = "1.2.826.0.1.3680043.8.498.4711"
"""The UID of a private SOP Class."""


def case(
    key: str, what: str | tuple[str, ...], remedy: str | tuple[str, ...]
) -> Callable[[Callable[..., Breaking]], Callable[..., Breaking]]:
    """Add a case: the key of its finding, words in `what` and in `remedy`."""

    def add(breaking: Callable[..., Breaking]) -> Callable[..., Breaking]:
        words = (what,) if isinstance(what, str) else what
        remedies = (remedy,) if isinstance(remedy, str) else remedy
        CASES.append(Case(breaking.__name__, key, words, remedies, breaking))
        return breaking

    return add


# ---- peers ---------------------------------------------------------------------------------------------


@contextmanager
def answering(edge: HealthyEdge, answer: Callable[[socket.socket], object]) -> Iterator[None]:
    """Put another server in the place of the PACS."""
    edge.pacs.off()
    with serving(edge.configuration.forwarder.orthanc.port, answer):
        yield
    edge.pacs.on()


@contextmanager
def serving(port: int, answer: Callable[[socket.socket], object]) -> Iterator[None]:
    """Serve each connection to a port with `answer`, in a thread."""
    listener = socket.create_server(("127.0.0.1", port), backlog=32)
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with closing(connection), suppress(OSError):
            answer(connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
            threads[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(30)
        for thread in threads:
            thread.join(30)


def silent(connection: socket.socket) -> None:
    """Read until the other side closes, and say nothing."""
    while connection.recv(4096):
        pass


def saying(text: bytes) -> Callable[[socket.socket], None]:
    """Return a server that answers every request with `text`."""

    def say(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(text)

    return say


@case("peer:ORTHANC", ("nothing listens", "connection refused"), ("start it", "forwarder.orthanc.host"))
def pacs_not_started(edge: HealthyEdge) -> Breaking:
    """Nothing listens on its port."""
    edge.pacs.off()
    yield
    edge.pacs.on()


@case("peer:ORTHANC", ("no-such-host.invalid", "no address"), "forwarder.orthanc.host")
def pacs_without_address(edge: HealthyEdge) -> Breaking:
    """Its name does not exist."""
    edge.configure_pacs(host="no-such-host.invalid")
    yield
    edge.restore()


@case("peer:ORTHANC", "the name server does not answer", ("DNS", "forwarder.orthanc.host"))
def name_server_hangs(edge: HealthyEdge, monkeypatch: pytest.MonkeyPatch) -> Breaking:
    """Looking up its name does not end."""
    real, hangs = socket.getaddrinfo, threading.Event()

    def lookup(host: Any, *more: Any, **extra: Any) -> Any:
        if host == "pacs.hospital":
            hangs.wait(60)
        return real("127.0.0.1" if host == "pacs.hospital" else host, *more, **extra)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    edge.configure_pacs(host="pacs.hospital")
    yield
    hangs.set()
    edge.restore()


@case("peer:ORTHANC", ("accepts TCP", "does not answer the association request"), "restart ORTHANC")
def pacs_silent(edge: HealthyEdge) -> Breaking:
    """It accepts connections and says nothing."""
    with answering(edge, silent):
        yield


@case("peer:ORTHANC", ("no DICOM", "answers HTTP"), "forwarder.orthanc.port")
def pacs_port_is_http(edge: HealthyEdge) -> Breaking:
    """The port of its web server was entered."""
    with answering(edge, saying(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")):
        yield


@case("peer:ORTHANC", ("no DICOM", "answers SSH"), "forwarder.orthanc.port")
def pacs_port_is_ssh(edge: HealthyEdge) -> Breaking:
    """The port of SSH was entered."""
    with answering(edge, saying(b"SSH-2.0-OpenSSH_9.6\r\n")):
        yield


@case("peer:ORTHANC", ("speaks TLS", "add `tls`"), "forwarder.orthanc.tls")
def pacs_speaks_tls(edge: HealthyEdge, tmp_path: Path) -> Breaking:
    """It expects TLS, and the edge sends plain DICOM."""
    pair = certificates.make(tmp_path / "certificates").edge
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            silent(secure)

    with answering(edge, answer):
        yield


@case("peer:ORTHANC", "speaks plain DICOM", "remove forwarder.orthanc.tls")
def pacs_speaks_plain_dicom(edge: HealthyEdge) -> Breaking:
    """The edge is configured for TLS, and it is not."""
    edge.configure_pacs(tls=DestinationTls(verify="none"))
    yield
    edge.restore()


@case("peer:ORTHANC", ("certificate that the edge refuses", "self-signed"), "forwarder.orthanc.tls.ca")
def pacs_certificate_of_a_stranger(edge: HealthyEdge, tmp_path: Path) -> Breaking:
    """Its certificate is signed by an authority that the edge does not trust."""
    made = certificates.make(tmp_path / "certificates")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.stranger.certificate, made.stranger.key)

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            silent(secure)

    edge.configure_pacs(tls=DestinationTls(ca=made.ca))
    with answering(edge, answer):
        yield
    edge.restore()


@case("peer:ORTHANC", ("does not know MINI_EDGE", "calling AE title"), ("enter MINI_EDGE", "edge.ae_title"))
def pacs_rejects_our_title(edge: HealthyEdge) -> Breaking:
    """It does not know the edge."""
    edge.pacs.rejection = CALLING_AE_TITLE_NOT_RECOGNIZED
    yield
    edge.pacs.rejection = None


@case("peer:ORTHANC", "called AE title not recognized", "forwarder.orthanc.ae_title")
def pacs_has_another_title(edge: HealthyEdge) -> Breaking:
    """It has another AE title."""
    edge.pacs.rejection = CALLED_AE_TITLE_NOT_RECOGNIZED
    yield
    edge.pacs.rejection = None


@case("peer:APP03", "temporary congestion", "max_associations_per_peer")
def worker_congested(edge: HealthyEdge) -> Breaking:
    """It accepts no association now."""
    edge.workers["APP03"].rejection = Rejection(2, 3, 1, "temporary_congestion")
    yield
    edge.workers["APP03"].rejection = None


@case("peer:ORTHANC", "ends the connection", "look into the log of ORTHANC")
def pacs_closes(edge: HealthyEdge) -> Breaking:
    """It closes the connection instead of answering."""
    with answering(edge, lambda connection: connection.recv(4096)):
        yield


@case("peer:ORTHANC", "none of 32 usual presentation contexts", "Storage SOP Classes")
def pacs_stores_nothing(edge: HealthyEdge) -> Breaking:
    """It answers C-ECHO, and accepts no Storage SOP Class."""
    accepted, edge.pacs.accepted_sop_classes = edge.pacs.accepted_sop_classes, frozenset()
    yield
    edge.pacs.accepted_sop_classes = accepted


@case("destination.away:ORTHANC", ("answers", "takes no C-STORE"), "destinations resume ORTHANC")
def pacs_aborts_every_store(edge: HealthyEdge) -> Breaking:
    """It answers C-ECHO and aborts at each C-STORE."""
    edge.pacs.answer = lambda _: ABORT
    for _ in range(3):
        forward_to_pacs(edge.core.context, edge.core.owed(Instance()))
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'workers'")
    yield
    edge.pacs.answer = lambda _: 0
    edge.edge.run("DELETE FROM suspects")
    edge.edge.run("UPDATE destinations SET breaker = 'closed', failures_in_row = 0")
    edge.core.due()
    for (delivery,) in edge.edge.rows("SELECT id FROM deliveries WHERE state = 'pending' AND route = 'pacs'"):
        forward_to_pacs(edge.core.context, delivery)
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE state = 'dead'")


@case("destination.away:ORTHANC", ("in the future", "clock of PostgreSQL"), "destinations resume ORTHANC")
def pacs_failed_in_the_future(edge: HealthyEdge) -> Breaking:
    """The clock of PostgreSQL was a day ahead when it failed, so its probe is set for tomorrow."""
    edge.edge.run(
        "UPDATE destinations SET breaker = 'open', changed_at = now() + interval '1 day', reason = 'silent', "
        "next_probe_at = now() + interval '1 day' WHERE ae_title = 'ORTHANC'"
    )
    finding = yield
    edge.apply(finding)
    edge.edge.run("UPDATE destinations SET breaker = 'closed', changed_at = now(), failures_in_row = 0")


@case("progress.ahead:pacs", ("wait until", "clock of PostgreSQL"), "deliveries retry --state pending")
def deliveries_wait_until_tomorrow(edge: HealthyEdge) -> Breaking:
    """The clock of PostgreSQL was a day ahead when a delivery was tried."""
    delivery = edge.core.owed(Instance())
    wait = "UPDATE deliveries SET next_attempt_at = now() + interval '1 day' WHERE id = %(id)s"
    edge.edge.run(wait, id=delivery)
    finding = yield
    edge.apply(finding)
    edge.edge.run("UPDATE deliveries SET state = 'cancelled'")


@case("destination.paused:APP01", "APP01 is paused", "destinations resume APP01")
def worker_paused(edge: HealthyEdge) -> Breaking:
    """Somebody paused it and forgot it."""
    edge.edge.run("UPDATE destinations SET paused = true, paused_by = 'bob' WHERE ae_title = 'APP01'")
    finding = yield
    edge.apply(finding)


@case("worker.silent:", "returned no result", ("calling_ae_titles", "destinations pause"))
def workers_return_nothing(edge: HealthyEdge) -> Breaking:
    """They answer C-STORE with Success, and return nothing."""
    for _ in range(20):
        ask(edge.core, Instance())
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'pacs'")
    edge.edge.run(
        "UPDATE expected_results SET state = 'timed_out', due_at = now() - interval '1 minute',"
        " asked_at = now() - interval '10 minutes'"
    )
    yield
    edge.edge.run("UPDATE expected_results SET state = 'arrived', arrived_at = now()")


@case("worker.late:APP01", ("after their deadline", "the slowest after 20.0 s"), "worker_timeout_seconds")
def worker_is_late(edge: HealthyEdge) -> Breaking:
    """It needs 20 s for each result, and the deadline is shorter."""
    for _ in range(6):
        ask(edge.core, Instance())
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'pacs'")
    edge.edge.run(
        "UPDATE expected_results SET worker = 'APP01', state = 'late',"
        " asked_at = now() - interval '30 s', arrived_at = now() - interval '10 s'"
    )
    yield
    edge.edge.run("UPDATE expected_results SET state = 'arrived'")


@case("results.given_up", "got no result from any worker", "deliveries resend --route workers")
def results_given_up(edge: HealthyEdge) -> Breaking:
    """No worker returned a result in time, and none is asked any more."""
    ask(edge.core, Instance())
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'pacs'")
    edge.edge.run("UPDATE expected_results SET state = 'timed_out'")
    yield
    edge.edge.run("UPDATE expected_results SET state = 'arrived', arrived_at = now()")


def _received(edge: HealthyEdge, count: int, *, kind: Kind = Kind.ORIGINAL, sender: str = "CT1") -> list[int]:
    """Keep instances of that sender that are owed to no target; return their ids."""
    prepared = PreparedInstances(edge.dsn, edge.configuration)
    first = edge.edge.one("SELECT coalesce(max(id), 0) FROM instances")
    ids = [prepared.receive(first + number, kind=kind, sender=sender) for number in range(1, count + 1)]
    edge.edge.run("DELETE FROM deliveries")
    prepared.database.close()
    return ids


@case("results.stray:APP01@127.0.0.1", "name no source that is known here", "results list --unmatched")
def results_of_instances_that_nobody_sent(edge: HealthyEdge) -> Breaking:
    """A worker returns results that name other UIDs than those of the images that it got."""
    _received(edge, 4, kind=Kind.RESULT, sender="APP01")
    edge.edge.run("UPDATE instances SET correlation = 'unmatched' WHERE kind = 'result'")
    yield
    edge.edge.run("UPDATE instances SET correlation = 'references' WHERE kind = 'result'")


@case("instances.conflict:CT1@127.0.0.1", "4 versions of one SOP Instance UID", "instances list --conflict")
def one_uid_for_several_images(edge: HealthyEdge) -> Breaking:
    """A scanner gives several images one UID."""
    ids = _received(edge, 4)
    edge.edge.run(
        "UPDATE instances SET conflict = true, sop_instance_uid = '1.2.3.4711' WHERE id = ANY (%(ids)s)",
        ids=ids,
    )
    yield
    edge.edge.run("UPDATE instances SET received_at = received_at - interval '2 hours'")


@case("instances.conflict:APP01@", ("3 results", "of another image"), ("UID of its own", "pause APP01"))
def results_under_the_uid_of_the_image(edge: HealthyEdge) -> Breaking:
    """A worker gives its results the SOP Instance UIDs of the images."""
    ids = _received(edge, 3)
    edge.edge.run(
        "UPDATE instances SET conflict = true, calling_ae_title = 'APP01' WHERE id = ANY (%(ids)s)", ids=ids
    )
    yield
    edge.edge.run("UPDATE instances SET received_at = received_at - interval '2 hours'")


@case("notify.failing:webhook", "no answer within 10 s", ("notify.webhook.url", "notify test"))
def nobody_is_told(edge: HealthyEdge) -> Breaking:
    """The webhook hangs, so the messages that tell of other findings reach nobody."""
    notify = Notify(webhook=Webhook(url="http://127.0.0.1:1/"))
    edge.configuration = edge.configuration.model_copy(update={"notify": notify})
    with edge.edge.database.statement() as session:
        findings.note_endpoint(session, "webhook", "no answer within 10 s")
    yield
    with edge.edge.database.statement() as session:
        findings.note_endpoint(session, "webhook", "")
    edge.restore()


@case(
    "rules.nowhere",
    ("all 3 instances", "ORTHANC accepts Modality (0008,0060) is MR"),
    ("rules explain", "config reload"),
)
def rules_that_nothing_meets(edge: HealthyEdge) -> Breaking:
    """The rule of the PACS is wrong, so every image is answered Success and goes to no archive."""
    rule = parse({"attribute": "Modality", "equals": "MR"})
    edge.configure_pacs(accepts=rule)
    rules = edge.configuration.forwarder.rules
    pacs = Target(Route.PACS, edge.configuration.forwarder.orthanc.ae_title)
    decided = [Decided(one, rules.digest, (), (pacs,), ()) for one in _received(edge, 3)]
    with edge.edge.database.transaction() as session:
        decisions.keep(session, decided, {rules.digest: rules.text})
    yield
    edge.restore()


# ---- deliveries ----------------------------------------------------------------------------------------


@case(
    "deliveries.dead:pacs", ("dead", "0xA900 (Error: data set does not match SOP Class)"), "deliveries retry"
)
def delivery_dead(edge: HealthyEdge) -> Breaking:
    """The PACS refused an instance until it was given up."""
    edge.pacs.answer = lambda _: 0xA900
    delivery = edge.core.owed(Instance())
    for _ in range(3):
        edge.core.due()
        forward_to_pacs(edge.core.context, delivery)
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'workers'")
    finding = yield
    edge.pacs.answer = lambda _: 0
    edge.apply(finding)


@case(
    "progress.stands:pacs",
    ("deliveries to pacs wait", "nothing was ever delivered"),
    "dramatiq actors -Q pacs",
)
def nothing_moves(edge: HealthyEdge) -> Breaking:
    """Deliveries are due, and their actor process takes none."""
    edge.core.owed(Instance())
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'workers'")
    edge.edge.run("UPDATE deliveries SET next_attempt_at = now() - interval '2 minutes' WHERE route = 'pacs'")
    yield
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'pacs'")


@case("progress.slow:pacs", ("a minute arrive", "ORTHANC is the bottleneck"), "make ORTHANC faster")
def pacs_slower_than_what_arrives(edge: HealthyEdge) -> Breaking:
    """The PACS took one of 40 instances, and needed 2 s for it."""
    prepared = PreparedInstances(edge.dsn, edge.configuration)
    for number in range(7000, 7040):
        last = prepared.receive(number)
    prepared.forward(last)
    prepared.database.close()
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'workers'")
    edge.edge.run("UPDATE deliveries SET next_attempt_at = now() - interval '40 s' WHERE state = 'pending'")
    edge.edge.run("UPDATE attempts SET duration_ms = 60000")
    yield
    edge.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE state = 'pending'")


@case("fault:pacs_down", "pacs_down is injected", "clear-faults pacs_down")
def fault_left_on(edge: HealthyEdge) -> Breaking:
    """Somebody injected a fault and forgot it."""
    with edge.edge.database.statement() as session:
        faults.inject(session, Active(Name.PACS_DOWN, None, None), duration=None, by="bob@ct")
    finding = yield
    edge.apply(finding)


# ---- processes -----------------------------------------------------------------------------------------


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


@case(
    "refused.calling_ae_title:CT2@",
    ("CT2 at 10.1.2.3 is not in edge.allowed_calling_aets", "rejected 6 times"),
    ("CT2@10.1.2.3", "mini-pacs config reload"),
)
def sender_unknown(edge: HealthyEdge) -> Breaking:
    """A modality was installed, and nobody told the edge."""
    edge.refuse(Reason.CALLING_AE_TITLE, "CT2", "10.1.2.3", count=6)
    yield
    allowed = (*edge.configuration.edge.allowed_calling_aets, "CT2@10.1.2.3")
    edge.configure_edge(allowed_calling_aets=allowed)


@case(
    "refused.called_ae_title:CT1@",
    ("CT1 at 10.1.2.4", "called another AE title"),
    "call MINI_EDGE, not OLD_EDGE",
)
def sender_calls_another_title(edge: HealthyEdge) -> Breaking:
    """A modality calls the edge by its old title."""
    edge.refuse(Reason.CALLED_AE_TITLE, "CT1", "10.1.2.4", called="OLD_EDGE")
    yield
    edge.edge.run("DELETE FROM refusals")


@case("refused.cannot_understand:CT1@", ("could not be read", "(0010,0020)"), "vendor of the sender")
def instance_unreadable(edge: HealthyEdge) -> Breaking:
    """A modality sends what cannot be parsed."""
    edge.refuse(Reason.CANNOT_UNDERSTAND, "CT1", "10.1.2.4", detail="the element (0010,0020) is cut off")
    yield
    edge.edge.run("DELETE FROM refusals")


@case("refused.sop_class:CT1@", ("does not accept", "declined"), "edge.additional_sop_classes")
def sop_class_declined(edge: HealthyEdge) -> Breaking:
    """A modality offers only what the edge does not accept."""
    edge.refuse(Reason.SOP_CLASS, "CT1", "10.1.2.4", detail=f"{PRIVATE} in Explicit VR: not accepted")
    yield
    edge.configure_edge(additional_sop_classes=(PRIVATE,))
    assert edge.examine().findings == []
    edge.restore()
    edge.edge.run("DELETE FROM refusals")


@case("refused.limit_of_peer:CT1@", "edge.max_associations_per_peer allows", "edge.max_associations_per_peer")
def sender_at_its_limit(edge: HealthyEdge) -> Breaking:
    """A modality does not release its associations."""
    edge.refuse(Reason.LIMIT_OF_PEER, "CT1", "10.1.2.4")
    yield
    edge.edge.run("DELETE FROM refusals")


@case(
    "refused.calling_ae_title:AISCU@",
    ("these are its results", "APP01"),
    ("calling_ae_titles of APP01", "AISCU@10.1.2.9"),
)
def worker_calls_by_another_title(edge: HealthyEdge) -> Breaking:
    """The results of a worker come under a title that is rejected."""
    edge.configure_worker(host="10.1.2.9")
    edge.refuse(Reason.CALLING_AE_TITLE, "AISCU", "10.1.2.9")
    yield
    edge.edge.run("DELETE FROM refusals")
    edge.restore()


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


@case("refused.malformed:CT1@", ("PS3.8 or PS3.7 forbids", "aborted 3 times"), "vendor of the sender")
def sender_breaks_its_associations(edge: HealthyEdge) -> Breaking:
    """A modality that is let in violates the standard each time."""
    edge.refuse(
        Reason.MALFORMED, "CT1", "10.1.2.4", detail="presentation context 99 was not accepted", count=3
    )
    yield
    edge.edge.run("DELETE FROM refusals")


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


# ---- spool ---------------------------------------------------------------------------------------------


@case("spool.reserve", "at its reserve", "sweep.retention_hours")
def disk_at_reserve(edge: HealthyEdge) -> Breaking:
    """The disk of the spool is nearly full."""
    edge.configure_edge(disk_reserve_mb=1 << 40)
    yield
    edge.restore()


@case("spool.unregistered", "acknowledged and not registered", "mini-pacs serve")
def unregistered(edge: HealthyEdge) -> Breaking:
    """An instance was answered Success a while ago, and has no rows."""
    one = edge.core.received(Instance())
    assert one.link is not None
    link = one.link
    earlier = link.stat().st_mtime - 3600
    os.utime(link, (earlier, earlier))
    yield
    edge.core.registration().register_one(one)
    edge.edge.run("UPDATE deliveries SET state = 'cancelled'")
    edge.edge.run("DELETE FROM dramatiq.queue")


@case("spool.damaged", "do not hold the bytes", "mini-pacs send")
def damaged(edge: HealthyEdge) -> Breaking:
    """A file has other bytes than were received."""
    path = edge.configuration.edge.data_root / "damaged" / "1.2.3" / "1.2.3.4.dcm"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    yield
    path.unlink()


@case("spool.unknown", "spool", "")
def spool_not_mounted(edge: HealthyEdge, tmp_path: Path) -> Breaking:
    """The folder of the spool is empty, because its disk is not mounted."""
    edge.core.owed(Instance())
    edge.edge.run("UPDATE deliveries SET state = 'cancelled'")
    edge.edge.run("DELETE FROM dramatiq.queue")
    empty = tmp_path / "not-mounted"
    empty.mkdir()
    edge.configure_edge(data_root=empty)
    yield
    edge.restore()


@case("configuration.refused:edge.data_root", "a folder is expected", "config check")
def spool_not_writable(edge: HealthyEdge, tmp_path: Path) -> Breaking:
    """A file has the name of the folder of the spool."""
    path = tmp_path / "file"
    path.touch()
    edge.configure_edge(data_root=path / "data")
    yield
    edge.restore()


@case("certificate:", "ended at", "renew it")
def certificate_expired(edge: HealthyEdge, tmp_path: Path) -> Breaking:
    """The certificate that the edge presents to the PACS has expired."""
    made = certificates.make(tmp_path / "certificates")
    tls = DestinationTls(certificate=made.expired.certificate, key=made.expired.key, verify="none")
    edge.configure_pacs(tls=tls)
    yield
    edge.restore()


# ---- PostgreSQL ----------------------------------------------------------------------------------------


@case("postgres.blocked:", ("wait for a lock", "psql", "LOCK"), "pg_terminate_backend")
def postgres_blocked(edge: HealthyEdge, monkeypatch: pytest.MonkeyPatch) -> Breaking:
    """Somebody locked a table, and a process of the edge waits for it."""
    monkeypatch.setattr(sessions, "BLOCKED_SECONDS", 0.0)
    holder, waiter = edge.session(), edge.session("mini-pacs actors-pacs")
    holder.cursor().execute("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE")

    def wait() -> None:
        with suppress(psycopg2.Error):
            waiter.cursor().execute("SELECT count(*) FROM deliveries")
            waiter.rollback()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    wait_until(lambda: edge.edge.one(waits), 10, "the session to wait")
    finding = yield
    edge.apply(finding)
    thread.join(30)
    waiter.close()


@case("postgres.blocked:", "has locked deliveries", "pg_terminate_backend")
def postgres_locked(edge: HealthyEdge, monkeypatch: pytest.MonkeyPatch) -> Breaking:
    """Somebody locked a table that no process needs now."""
    monkeypatch.setattr(sessions, "LOCK_LONG", timedelta())
    edge.session().cursor().execute("LOCK TABLE deliveries IN SHARE MODE")
    finding = yield
    edge.apply(finding)


@case("postgres.idle:", ("idle", "psql"), ("pg_terminate_backend", "idle_in_transaction_session_timeout"))
def postgres_idle(edge: HealthyEdge, monkeypatch: pytest.MonkeyPatch) -> Breaking:
    """Somebody forgot a transaction."""
    monkeypatch.setattr(sessions, "IDLE_LONG", timedelta())
    edge.session().cursor().execute("SELECT count(*) FROM instances")
    finding = yield
    edge.apply(finding)


@case("postgres.read_only", "default_transaction_read_only", "RESET default_transaction_read_only")
def postgres_read_only(edge: HealthyEdge) -> Breaking:
    """The database was set read-only."""
    name = psycopg2.extensions.parse_dsn(edge.dsn)["dbname"]
    edge.edge.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    yield
    edge.edge.run(f"ALTER DATABASE {name} RESET default_transaction_read_only")


@case("postgres.schema", ("not that of this version", "lacks"), "")
def postgres_old_schema(edge: HealthyEdge) -> Breaking:
    """A migration is missing."""
    last = edge.edge.rows(
        "SELECT version, digest, additive FROM schema_migrations ORDER BY version DESC LIMIT 1"
    )
    edge.edge.run("DELETE FROM schema_migrations WHERE version = %(version)s", version=last[0][0])
    yield
    edge.edge.run(
        "INSERT INTO schema_migrations (version, digest, additive) VALUES (%(v)s, %(d)s, %(a)s)",
        v=last[0][0],
        d=last[0][1],
        a=last[0][2],
    )


@contextmanager
def another_dsn(edge: HealthyEdge, dsn: str) -> Iterator[None]:
    """Let the diagnosis use another DSN."""
    right, edge.dsn = edge.dsn, dsn
    yield
    edge.dsn = right


@case("postgres.away", ("127.0.0.1:1", "database none, user nobody"), "start PostgreSQL")
def postgres_not_started(edge: HealthyEdge) -> Breaking:
    """Nothing listens on its port."""
    with another_dsn(edge, "postgresql://nobody:secret@127.0.0.1:1/none"):
        yield


@case("postgres.away", ("no-such-host.invalid", "cannot be used"), "POSTGRES_HOST")
def postgres_without_address(edge: HealthyEdge) -> Breaking:
    """Its host name does not exist."""
    with another_dsn(edge, "postgresql://nobody:secret@no-such-host.invalid:5432/none"):
        yield


@case("postgres.away", "does not answer", "POSTGRES_HOST")
def postgres_hangs(edge: HealthyEdge) -> Breaking:
    """It accepts connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        with another_dsn(edge, f"postgresql://nobody:secret@127.0.0.1:{port}/none"):
            yield


@case("postgres.login", ("refuses the login", "does not exist"), "DATABASE_URL")
def postgres_refuses_the_login(edge: HealthyEdge) -> Breaking:
    """The role does not exist."""
    with another_dsn(edge, psycopg2.extensions.make_dsn(edge.dsn, user="nobody_knows")):
        yield


@case("postgres.privileges", "may not read", "db grant")
def postgres_without_privileges(edge: HealthyEdge) -> Breaking:
    """The role of the processes has no privileges yet."""
    edge.edge.run("DROP ROLE IF EXISTS without_privileges")
    edge.edge.run("CREATE ROLE without_privileges LOGIN")
    with another_dsn(edge, psycopg2.extensions.make_dsn(edge.dsn, user="without_privileges")):
        yield
    edge.edge.run("DROP ROLE without_privileges")


@case("postgres.search_path", ("search_path", "elsewhere", "schema public"), "RESET search_path")
def postgres_with_another_search_path(edge: HealthyEdge) -> Breaking:
    """The role looks for the tables in a schema that has none."""
    edge.edge.run("DROP ROLE IF EXISTS lost")
    edge.edge.run("CREATE ROLE lost LOGIN")
    edge.edge.run("ALTER ROLE lost SET search_path = elsewhere")
    with another_dsn(edge, psycopg2.extensions.make_dsn(edge.dsn, user="lost")):
        yield
    edge.edge.run("DROP ROLE lost")


@case("postgres.incomplete", "deliveries_one_per_route", "ALTER TABLE deliveries ADD CONSTRAINT")
def postgres_without_a_constraint(edge: HealthyEdge) -> Breaking:
    """A restore lost a constraint."""
    edge.edge.run("ALTER TABLE deliveries DROP CONSTRAINT deliveries_one_per_route")
    finding = yield
    edge.edge.run(finding.remedy.split("`")[1])


@case("postgres.connections", "no connection left", ("end the program", "ALTER ROLE few_connections"))
def postgres_without_connections(edge: HealthyEdge) -> Breaking:
    """Another program has all connections of the role."""
    edge.edge.run("DROP ROLE IF EXISTS few_connections")
    edge.edge.run("CREATE ROLE few_connections LOGIN CONNECTION LIMIT 1")
    dsn = psycopg2.extensions.make_dsn(edge.dsn, user="few_connections")
    holder = edge.session("report-tool", dsn)
    with another_dsn(edge, dsn):
        yield
    holder.close()
    gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = 'few_connections'"
    wait_until(lambda: edge.edge.one(gone), 10, "the session to end")
    edge.edge.run("DROP ROLE few_connections")
