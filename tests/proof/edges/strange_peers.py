"""Edges whose senders and workers do what the standard does not allow, or what nobody expects."""

import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from proof.edges import sender
from proof.edges.edge import broken
from proof.edges.lab import Lab, Setup
from proof.edges.results import healthy
from proof.edges.sender import NotAssociatedError

STRANGE = Setup("strange-peers")
WRITTEN = 6  # s until refusals are in PostgreSQL


def _raw(lab: Lab, data: bytes, *, wait: float) -> None:
    """Open an association, put bytes of our own on its connection, and wait for what the edge does."""
    opened = sender.associate(lab.port, [(CTImageStorage, ExplicitVRLittleEndian)])
    connection = opened.dul.socket.socket  # type: ignore[union-attr]
    assert connection is not None
    connection.sendall(data)
    end = time.monotonic() + wait
    while opened.is_established and time.monotonic() < end:
        time.sleep(0.1)
    opened.abort()


@contextmanager
def _slow_loris(lab: Lab, connections: int) -> Generator[None]:
    """Keep connections open that never end their request for an association."""
    ended = threading.Event()

    def run() -> None:
        held: list[socket.socket] = []
        while not ended.wait(0.5):
            while len(held) < connections:
                held.append(socket.create_connection(("127.0.0.1", lab.port), 5))
                held[-1].sendall(b"\x01\x00\x00\x00\x10\x00")
            for one in list(held):
                try:
                    one.sendall(b"\x00")
                except OSError:
                    one.close()
                    held.remove(one)
        for one in held:
            one.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)


@broken(
    STRANGE,
    (r"127\.0\.0\.1", r"connection", r"no association|not ask|without|never|too many|limit"),
    (r"max_associations|artim_timeout|firewall|that (program|peer|host)|ss -",),
)
def connections_that_never_ask(lab: Lab) -> Generator[None]:
    """A program keeps all connections open and asks for no association, so scanners get none."""
    lab.configure({"edge": {"max_associations": 3, "max_associations_per_peer": 3}})
    with _slow_loris(lab, 200):
        time.sleep(3)
        for _ in range(3):
            with suppress(NotAssociatedError):
                sender.send(lab.port, [sender.synthetic()])
        time.sleep(WRITTEN)
        yield
    lab.configure({})
    lab.sent_again()


@broken(
    STRANGE,
    (r"\bCT1\b", r"silent|stopped|timed? ?out|no more data", r"message|middle|C-STORE"),
    (r"network|sender",),
    gone_within=None,
)
def sender_stops_in_the_middle(lab: Lab) -> Generator[None]:
    """The network of a scanner breaks down in the middle of each image."""
    lab.configure({"edge": {"network_timeout_seconds": 2}})
    cut_off = b"\x04\x00" + (4096).to_bytes(4, "big") + (4092).to_bytes(4, "big") + b"\x01\x01" + bytes(90)
    for _ in range(3):
        _raw(lab, cut_off, wait=8)
    time.sleep(WRITTEN)
    yield
    lab.configure({})
    lab.send(1)


@broken(
    STRANGE,
    (r"\bCT1\b|127\.0\.0\.1", r"presentation context|context|standard|malformed"),
    (r"vendor|sender",),
    gone_within=None,
)
def sender_uses_a_context_that_it_has_not(lab: Lab) -> Generator[None]:
    """A scanner sends on a presentation context that was never negotiated."""
    value = (
        b"\x00\x00\x00\x00\x04\x00\x00\x00\x38\x00\x00\x00"  # group length
        b"\x00\x00\x02\x00\x12\x00\x00\x001.2.840.10008.1.1\x00"
        b"\x00\x00\x00\x01\x02\x00\x00\x00\x30\x00"
        b"\x00\x00\x10\x01\x02\x00\x00\x00\x01\x00"
        b"\x00\x00\x00\x08\x02\x00\x00\x00\x01\x01"
    )
    pdv = (len(value) + 2).to_bytes(4, "big") + b"\x63\x03" + value
    for _ in range(3):
        _raw(lab, b"\x04\x00" + len(pdv).to_bytes(4, "big") + pdv, wait=5)
    time.sleep(WRITTEN)
    yield
    lab.send(1)


@broken(
    STRANGE,
    (r"\bCT4\b", r"ct4\.nowhere\.invalid", r"resolv|look(ed)? up|unknown|DNS|no address|not found"),
    (r"edge\.allowed_calling_aets|DNS",),
)
def sender_whose_name_is_unknown(lab: Lab) -> Generator[None]:
    """A scanner is allowed under a host name that cannot be resolved."""
    allowed = lab.base["edge"]["allowed_calling_aets"]
    lab.configure({"edge": {"allowed_calling_aets": [*allowed, "CT4@ct4.nowhere.invalid"]}})
    for _ in range(4):
        with suppress(NotAssociatedError):
            sender.send(lab.port, [sender.synthetic()], calling="CT4")
    time.sleep(WRITTEN)
    yield
    lab.configure({"edge": {"allowed_calling_aets": [*allowed, "CT4@127.0.0.1"]}})
    lab.send(1, calling="CT4")
    lab.configure({})


@broken(
    STRANGE,
    (r"\bAPP0[12]\b", r"Secondary Capture Image Storage"),
    (r"edge\.(additional|accepted)_sop_classes",),
)
def worker_whose_results_are_declined(lab: Lab) -> Generator[None]:
    """The edge accepts CT only, and the workers return Secondary Captures."""
    for title in lab.worker_ports:
        lab.worker(title, "--store", "result", "--result-sop-class", str(SecondaryCaptureImageStorage))
    lab.configure({"edge": {"accepted_sop_classes": [str(CTImageStorage)]}})
    lab.send(6)
    time.sleep(10)
    yield
    lab.configure({"edge": {"additional_sop_classes": [str(SecondaryCaptureImageStorage)]}})
    lab.send(4)
    time.sleep(4)
    healthy(lab)


@broken(
    STRANGE,
    (r"\bAPP0[12]\b", r"late|after (its|the|their) deadline|slower|overdue|takes longer"),
    (r"worker_timeout_seconds",),
    within=30,  # a single late result is no finding
)
def worker_answers_too_late(lab: Lab) -> Generator[None]:
    """Both workers need 12 s for a result, and the deadline is 5 s."""
    for title in lab.worker_ports:
        lab.worker(title, "--store", "result", "--seconds", "12")
    lab.send(6)
    time.sleep(30)
    yield
    healthy(lab)
    lab.configure({"forwarder": {"worker_timeout_seconds": 60}})
    lab.send(8)
    time.sleep(5)
    healthy(lab)


@broken(
    STRANGE,
    (r"\bAPP0[12]\b", r"SOP Instance UID", r"same|original|image|other bytes|one SOP"),
    (r"vendor|instances list --conflict|new (SOP Instance )?UID|APP0[12]",),
    gone_within=None,
)
def worker_copies_the_uid_of_the_image(lab: Lab) -> Generator[None]:
    """The workers give their results the SOP Instance UID of the image."""
    for title in lab.worker_ports:
        lab.worker(title, "--store", "result", "--result-copies-uid")
    lab.send(6)
    time.sleep(10)
    yield
    healthy(lab)
    lab.send(4)
