"""DICOM peers for tests: an acceptor that records, a scripted raw socket, DCMTK's programs."""

import contextlib
import functools
import os
import shutil
import socket
import ssl
import struct
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pydicom
import pytest

from gateway.dicom import command, pdu
from gateway.dicom.acceptor import Acceptor
from gateway.dicom.association import PeerAddress
from gateway.dicom.contexts import VERIFICATION, Offer, ProposedContext, storage_sop_classes
from gateway.dicom.dataset.part10 import read_file_meta
from gateway.dicom.negotiation import encode_request
from gateway.dicom.policy import Rejection, Requestor, StoreRequest, Timeouts
from gateway.errors import DataSetError
from support.waiting import wait_until

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
CT_IMPLICIT = ProposedContext(CT, IMPLICIT)
ECHO = ProposedContext(VERIFICATION, IMPLICIT)
DEADLINE_SECONDS = 10.0
SHORT_SECONDS = 0.3
"""A timeout of the acceptor that the test waits for."""

End = TypeVar("End")


# ---- the acceptor ------------------------------------------------------------------------------------


@dataclass
class Received:
    """One reception: the request, its bytes, and its end."""

    policy: "RecordingPolicy"
    request: StoreRequest
    data: bytearray = field(default_factory=bytearray)
    most_fragments: int = 0
    """The most that one call of `write` had."""
    finished: bool = False
    abandoned: str | None = None

    def write(self, *fragments: memoryview) -> None:
        """Keep the bytes, and run the test's own step."""
        self.most_fragments = max(self.most_fragments, len(fragments))
        for fragment in fragments:
            self.data += fragment
        self.policy.on_write(self)

    def finish(self) -> tuple[int, str]:
        """Return the answer that the test gives."""
        assert not self.finished
        assert self.abandoned is None
        self.finished = True
        return self.policy.answer(self)

    def answered(self) -> None:
        """Do nothing: no step is left."""

    def abandon(self, reason: str) -> None:
        """Keep the reason."""
        assert not self.finished
        assert self.abandoned is None
        self.abandoned = reason


class RecordingPolicy:
    """Admits every association, answers Success, and records each call."""

    def __init__(self) -> None:
        self.accepted_sop_classes = storage_sop_classes()
        self.rejection: Rejection | None = None
        self.answer: Callable[[Received], tuple[int, str]] = lambda _: (0, "")
        self.on_write: Callable[[Received], None] = lambda _: None
        self.requestors: list[Requestor] = []
        self.received: list[Received] = []
        self.outcomes: list[tuple[str, str | None]] = []
        self.unadmitted: list[tuple[str, str]] = []

    def admit(self, requestor: Requestor) -> Rejection | None:
        """Admit every association, unless the test says otherwise."""
        self.requestors.append(requestor)
        return self.rejection

    def store(self, requestor: Requestor, request: StoreRequest) -> Received:
        """Keep the reception."""
        assert requestor in self.requestors
        received = Received(self, request)
        self.received.append(received)
        return received

    def ended(self, requestor: Requestor, outcome: str, error: str | None) -> None:
        """Keep the end of the association."""
        assert requestor in self.requestors
        self.outcomes.append((outcome, error))

    def ended_unadmitted(self, remote_address: str, outcome: str, error: str) -> None:
        """Keep the end of the connection."""
        assert remote_address == "127.0.0.1"
        self.unadmitted.append((outcome, error))


class Edge:
    """An acceptor on its own port, with one thread per connection."""

    def __init__(self, timeouts: Timeouts, max_pdu_bytes: int, tls: ssl.SSLContext | None) -> None:
        self.policy = RecordingPolicy()
        self.acceptor = Acceptor(self.policy, max_pdu_bytes, timeouts, tls=tls)
        self.raised: list[BaseException] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.peer = PeerAddress("127.0.0.1", self.port, "EDGE", timeout_seconds=5, connect_timeout_seconds=5)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._open = 0
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, address = self._listener.accept()
            except OSError:
                return  # the listener was shut down
            thread = threading.Thread(target=self._serve, args=(sock, address))
            with self._lock:
                self._open += 1  # before it starts, so that `wait_ended` cannot return too early
            thread.start()
            self._threads.append(thread)

    def _serve(self, sock: socket.socket, address: tuple[str, int]) -> None:
        try:
            self.acceptor.serve(sock, address)
        except RuntimeError as error:  # an error of a test's policy
            self.raised.append(error)
        finally:
            with self._lock:
                self._open -= 1

    def alive(self) -> int:
        """Return how many connections are being served."""
        with self._lock:
            return self._open

    def wait_ended(self) -> None:
        """Wait until no association is left."""
        wait_until(lambda: not self.alive(), DEADLINE_SECONDS, "every association to end")

    def outcome(self) -> tuple[str, str | None]:
        """Return how the only admitted association ended."""
        return self._only(self.policy.outcomes, none_of=self.policy.unadmitted)

    def unadmitted(self) -> tuple[str, str]:
        """Return how the only connection without an association ended."""
        return self._only(self.policy.unadmitted, none_of=self.policy.outcomes)

    def _only(self, ends: list[End], *, none_of: Sized) -> End:
        wait_until(lambda: ends, DEADLINE_SECONDS, "the connection to end")
        self.wait_ended()
        assert not self.raised, self.raised
        assert not none_of, none_of
        (only,) = ends
        return only

    def close(self) -> None:
        """Stop, and wait for every thread."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        self.acceptor.stop()
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS)
        assert not self.alive()


@contextlib.contextmanager
def edge(
    *,
    artim: float = 5,
    network: float = 5,
    idle: float = 30,
    max_pdu_bytes: int = 131_072,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Edge]:
    """Yield an acceptor for the length of the `with`."""
    running = Edge(Timeouts(artim, network, idle), max_pdu_bytes, tls)
    try:
        yield running
    finally:
        running.close()


# ---- the scripted peer -------------------------------------------------------------------------------


class Script:
    """A raw socket that sends the bytes of a test, valid or not."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(DEADLINE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, *parts: bytes) -> None:
        """Send the parts as one write."""
        self.sock.sendall(b"".join(parts))

    @contextlib.contextmanager
    def trickling(self, values: Iterable[int]) -> Iterator[None]:
        """Send one byte after the other during the `with`, as long as they are accepted.

        The pause between two bytes is well below SHORT_SECONDS.
        """
        ended = threading.Event()

        def trickle() -> None:
            for byte in values:
                if ended.wait(SHORT_SECONDS / 10):
                    return
                try:
                    self.send(bytes([byte]))
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def read(self, count: int) -> bytes:
        """Read exactly that many bytes; fewer only at the end of the stream."""
        raw = b""
        while len(raw) < count:
            more = self.sock.recv(count - len(raw))
            if not more:
                break
            raw += more
        return raw

    def pdu(self) -> tuple[int, bytes]:
        """Return the next PDU: type and body; type 0 at the end of the stream."""
        try:
            header = self.read(6)
        except ConnectionResetError:
            return 0, b""
        if not header:
            return 0, b""
        return header[0], self.read(struct.unpack(">I", header[2:])[0])

    def response(self) -> command.CommandSet:
        """Return the command set of the next P-DATA, which must contain all of it."""
        kind, body = self.pdu()
        assert kind == pdu.P_DATA_TF
        assert body[5] == pdu.IS_COMMAND | pdu.IS_LAST
        return command.CommandSet(body[6:])

    def expect_abort(self) -> tuple[int, int]:
        """Return source and reason of the A-ABORT that must come next; the stream must end after it."""
        kind, body = self.pdu()
        assert kind == pdu.ABORT, pdu.name_of(kind)
        self.expect_end()
        return body[2], body[3]

    def expect_end(self) -> None:
        """Expect the end of the stream."""
        assert self.pdu()[0] == 0


def associate_request(*offers: Offer, max_pdu_bytes: int = 16_384) -> bytes:
    """Return an A-ASSOCIATE-RQ for CT (id 1) and Verification (id 3), or for `offers`."""
    return encode_request(
        called_ae_title="EDGE",
        calling_ae_title="SCRIPT",
        offers=offers or (Offer(1, CT, (IMPLICIT,)), Offer(3, VERIFICATION, (IMPLICIT,))),
        max_pdu_bytes=max_pdu_bytes,
    )


@contextlib.contextmanager
def script(edge: Edge, *, associated: bool = True, max_pdu_bytes: int = 16_384) -> Iterator[Script]:
    """Yield a scripted requestor, with an association unless the test asks for none."""
    with socket.create_connection(("127.0.0.1", edge.port)) as sock:
        peer = Script(sock)
        if associated:
            peer.send(associate_request(max_pdu_bytes=max_pdu_bytes))
            assert peer.pdu()[0] == pdu.ASSOCIATE_AC
        yield peer


def pdv(context_id: int, control: int, data: bytes) -> bytes:
    """Return a presentation data value."""
    return pdu.PDV_HEADER.pack(len(data) + 2, context_id, control) + data


def p_data(*values: bytes) -> bytes:
    """Return a P-DATA-TF of presentation data values."""
    body = b"".join(values)
    return pdu.HEADER.pack(pdu.P_DATA_TF, len(body)) + body


def store_command(message_id: int = 1, *, context_id: int = 1, sop_class_uid: str = CT) -> bytes:
    """Return a complete C-STORE-RQ as one PDV."""
    return pdv(context_id, 3, command.c_store_request(message_id, sop_class_uid, "1.2.3", 0))


def echo_command(message_id: int = 1, *, context_id: int = 3) -> bytes:
    """Return a complete C-ECHO-RQ as one PDV."""
    return pdv(context_id, 3, command.c_echo_request(message_id, VERIFICATION))


# ---- real peers and real files -----------------------------------------------------------------------


def dcmtk(program: str) -> str:
    """Return the path of a program of DCMTK; skip the test where it is missing, except in CI."""
    path = shutil.which(program)
    if path is None:
        assert "CI" not in os.environ, f"{program} is missing: install dcmtk"
        pytest.skip(f"{program} is not installed")
    return path


@dataclass(frozen=True)
class Sendable:
    """A Part 10 file that has all UIDs and a patient-related Storage SOP Class."""

    path: Path
    sop_instance_uid: str
    context: ProposedContext
    offset: int

    def data_set(self) -> bytes:
        """Return the bytes of the data set, unchanged."""
        return self.path.read_bytes()[self.offset :]


@functools.cache
def bundled_files() -> tuple[Path, ...]:
    """Return the test files inside the pydicom package; `get_testdata_files` would download others."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    return tuple(sorted(path for path in folder.rglob("*.dcm") if path.is_file()))


def read_quietly(path: Path) -> pydicom.FileDataset:
    """Read a file up to the pixels without warnings: some files are malformed on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path, stop_before_pixels=True, force=True)


@functools.cache
def sendable_files() -> tuple[Sendable, ...]:
    """Return the sendable ones among pydicom's test files."""
    found = []
    for path in bundled_files():
        try:
            meta = read_file_meta(path.read_bytes()[:65_536])
        except DataSetError:
            continue
        head = read_quietly(path)
        uids = [head.get(f"{level}InstanceUID") for level in ("SOP", "Study", "Series")]
        if all(uids) and head.get("SOPClassUID") in storage_sop_classes():
            context = ProposedContext(str(head.SOPClassUID), meta.transfer_syntax_uid)
            found.append(Sendable(path, str(uids[0]), context, meta.data_set_offset))
    assert len(found) > 50
    return tuple(found)
