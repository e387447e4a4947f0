"""A DICOM peer on a port of the configuration: it accepts, refuses, rejects, aborts or hangs."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256

from gateway.dicom import pdu
from gateway.dicom.acceptor import Acceptor
from gateway.dicom.contexts import Offer, storage_sop_classes
from gateway.dicom.negotiation import decode_request
from gateway.dicom.policy import AbortAssociation, Contexts, Rejection, Requestor, StoreRequest, Timeouts
from support.waiting import wait_until

ABORT = -1
"""As an answer: A-ABORT instead of a C-STORE-RSP."""

MAX_PDU_BYTES = 131_072
TIMEOUTS = Timeouts(artim_seconds=10, network_seconds=30, idle_seconds=60)


@dataclass(frozen=True)
class Taken:
    """One complete data set, and the answer to it."""

    request: StoreRequest
    calling_ae_title: str
    digest: str
    size: int
    status: int
    at: float = field(default_factory=time.monotonic)

    @property
    def sop_instance_uid(self) -> str:
        """Return the UID of the command set."""
        return self.request.sop_instance_uid


class _Arriving:
    def __init__(self, peer: "Peer", requestor: Requestor, request: StoreRequest) -> None:
        self._peer = peer
        self._requestor = requestor
        self._request = request
        self._digest = sha256()
        self._size = 0

    def write(self, *fragments: memoryview) -> None:
        if self._request.sop_instance_uid in self._peer.abort_in:
            self._peer.aborted.append(self._request.sop_instance_uid)
            raise AbortAssociation
        if self._peer.pause_seconds:
            time.sleep(self._peer.pause_seconds)  # a slow line, not a wait for something
        for fragment in fragments:
            self._digest.update(fragment)
            self._size += len(fragment)

    def finish(self) -> tuple[int, str]:
        status = self._peer.answer(self._request)
        self._peer.taken.append(
            Taken(
                self._request, self._requestor.calling_ae_title, self._digest.hexdigest(), self._size, status
            )
        )
        if status == ABORT:
            raise AbortAssociation
        return status, "as the test asked for" if status else ""

    def answered(self) -> None:
        """Do nothing: no step is left."""

    def abandon(self, reason: str) -> None:
        """Do nothing: no data is kept."""


class Peer:
    """The peer; `answer` returns a status or ABORT, and may wait. It does not listen until `on`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.accepted_sop_classes = storage_sop_classes()
        self.contexts = Contexts()
        self.answer: Callable[[StoreRequest], int] = lambda _: 0
        self.rejection: Rejection | None = None
        self.abort_in: set[str] = set()
        """SOP Instance UIDs at whose first fragment the association is aborted."""
        self.pause_seconds = 0.0
        """The pause at each fragment."""
        self.refuse: Callable[[tuple[Offer, ...]], bytes | None] | None = None
        """The answer to an A-ASSOCIATE-RQ with these offers before it closes; None: it continues."""
        self.one_at_a_time = False
        """Do not answer a further association before the open one has ended."""
        self.taken: list[Taken] = []
        self.aborted: list[str] = []
        self.associations = 0
        self._listener: socket.socket | None = None
        self._acceptor: Acceptor | None = None
        self._threads: list[threading.Thread] = []

    # ---- what it answers to the acceptor -------------------------------------------------------------

    def admit(self, _requestor: Requestor) -> Rejection | None:
        """Admit every association, unless the test says otherwise."""
        self.associations += 1
        return self.rejection

    def store(self, requestor: Requestor, request: StoreRequest) -> _Arriving:
        """Accept the data set."""
        return _Arriving(self, requestor, request)

    def ended(self, requestor: Requestor, outcome: str, error: str | None) -> None:
        """Do nothing: no test needs it."""

    def ended_unadmitted(self, remote_address: str, outcome: str, error: str) -> None:
        """Do nothing: no test needs it."""

    # ---- on and off ----------------------------------------------------------------------------------

    def on(self) -> None:
        """Listen."""
        acceptor = self._acceptor = Acceptor(self, MAX_PDU_BYTES, TIMEOUTS, contexts=self.contexts)
        listener = self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)

        def accept() -> None:
            while True:
                try:
                    connection, address = listener.accept()
                except OSError:
                    return  # it was switched off
                if self._refuses(connection):
                    continue
                if self.one_at_a_time:
                    acceptor.serve(connection, address)
                    continue
                thread = threading.Thread(target=acceptor.serve, args=(connection, address))
                self._threads.append(thread)
                thread.start()

        thread = threading.Thread(target=accept)
        self._threads.append(thread)
        thread.start()

    def off(self) -> None:
        """Stop listening, and wait until its associations have ended."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        assert self._acceptor is not None
        self._acceptor.stop()
        for thread in list(self._threads):
            thread.join(30)
        self._threads.clear()

    def _refuses(self, connection: socket.socket) -> bool:
        """Send the bytes that `refuse` returns, and close; return False if it returns None."""
        if self.refuse is None:
            return False
        head = connection.recv(pdu.HEADER.size, socket.MSG_PEEK | socket.MSG_WAITALL)
        if len(head) < pdu.HEADER.size:
            return False
        size = pdu.HEADER.size + pdu.HEADER.unpack(head)[1]
        raw = connection.recv(size, socket.MSG_PEEK | socket.MSG_WAITALL)
        answer = self.refuse(decode_request(raw[pdu.HEADER.size :]).offers)
        if answer is None:
            return False
        self.associations += 1
        connection.recv(size, socket.MSG_WAITALL)  # closing with unread data would send a reset
        connection.sendall(answer)
        connection.close()
        return True

    # ---- what it saw ---------------------------------------------------------------------------------

    def count(self, sop_instance_uid: str) -> int:
        """Return how often that instance arrived complete."""
        return sum(taken.sop_instance_uid == sop_instance_uid for taken in list(self.taken))

    def uids(self) -> list[str]:
        """Return the UIDs answered with Success, in that order."""
        return [taken.sop_instance_uid for taken in list(self.taken) if taken.status == 0]

    def wait_for(self, *sop_instance_uids: str, timeout: float = 15) -> None:
        """Wait until it has answered each of them with Success."""
        wait_until(
            lambda: set(sop_instance_uids) <= set(self.uids()),
            timeout,
            f"{len(sop_instance_uids)} instances at the peer",
        )


def after(
    event: threading.Event, then: int = 0, *, arrived: threading.Event | None = None
) -> Callable[[StoreRequest], int]:
    """Return an answer that sets `arrived`, and waits for `event`."""

    def answer(_: StoreRequest) -> int:
        if arrived is not None:
            arrived.set()
        event.wait(60)
        return then

    return answer


@contextmanager
def peer(port: int, *, on: bool = True) -> Iterator[Peer]:
    """Yield a peer for the length of the `with`."""
    running = Peer(port)
    if on:
        running.on()
    try:
        yield running
    finally:
        running.off()
