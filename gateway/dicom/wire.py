"""Read and write the PDUs of one association on a blocking socket.

One thread uses a wire. A read blocks in the kernel until bytes come or the peer is silent for too long; a
wait between two messages also ends when the acceptor stops. Data is returned as views into one buffer, in the
pieces that the network delivers, so that the length of a PDU does not determine the memory it needs.

Two options of TCP save 44 ms a message each. With TCP_NODELAY, our last segment does not wait for the peer's
ACK. With TCP_QUICKACK, our ACK is sent at once: a peer that uses Nagle's algorithm waits for it before its
last segment. The kernel resets TCP_QUICKACK, so it is set after each read.
"""

import contextlib
import select
import socket
import struct
import time

from gateway.dicom.pdu import ABORT, HEADER, PDV_HEADER, PDV_OVERHEAD, SHORT_BYTES, PduError
from gateway.errors import AssociationBrokenError

_FIRST_BUFFER_BYTES = 16 * 1024
_FULL_BUFFER_BYTES = 256 * 1024
"""The buffer of an association that receives images; an idle one keeps _FIRST_BUFFER_BYTES."""

_LINGER_BYTES = 4 << 20
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux only
_NEVER = float("inf")


def _do_nothing() -> None:
    pass


class ClosedByPeerError(AssociationBrokenError):
    """The connection was closed or reset without release or abort."""


class AbortedByPeerError(AssociationBrokenError):
    """The peer sent A-ABORT."""


class TimedOutError(AssociationBrokenError):
    """The peer sent nothing, or did not read what we sent, for too long."""


class IdleError(TimedOutError):
    """The peer sent no message for too long, and was not in the middle of one."""


class WokenError(Exception):
    """The waker became readable while the association waited: this side is stopping."""


class Wire:
    """A connected socket and the bytes that were read from it ahead of their use.

    `silence_seconds` limits each blocking read and write; it must exceed the longest pause of a healthy peer
    within a message. `waker` is a descriptor that ends `wait` when it becomes readable.
    """

    __slots__ = (
        "_buffer",
        "_end",
        "_poll",
        "_silence_seconds",
        "_sock",
        "_start",
        "_view",
        "_waker",
        "before_read",
        "deadline",
    )

    def __init__(self, sock: socket.socket, *, silence_seconds: float, waker: int | None = None) -> None:
        self._sock = sock
        self._waker = waker
        self._silence_seconds = silence_seconds
        self.deadline = _NEVER
        """The time after which no read begins (monotonic seconds)."""
        self.before_read = _do_nothing
        """Called before each read from the socket, which overwrites what the views of `piece` show."""
        self._buffer = bytearray(_FIRST_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        # Timeouts of the kernel, because those of Python's socket cost a poll before every read.
        sock.settimeout(None)
        interval = struct.pack("@ll", int(silence_seconds), int(silence_seconds % 1 * 1e6))
        with contextlib.suppress(OSError):  # already reset: the first read reports it
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, interval)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poll = select.poll()  # not select.select, which fails for descriptors from 1024 on
        self._poll.register(sock, select.POLLIN)
        if waker is not None:
            self._poll.register(waker, select.POLLIN)

    # ---- waiting -------------------------------------------------------------------------------------

    def has_read_ahead(self) -> bool:
        """Tell whether there are bytes that were read and not yet used."""
        return self._start < self._end

    def is_readable(self) -> bool:
        """Tell, without waiting, whether the peer sent something or ended the stream."""
        return self.has_read_ahead() or bool(self._poll.poll(0))

    def wait(self, seconds: float) -> None:
        """Wait until there is something to read from the socket.

        Raises:
            TimedOutError: nothing came.
            WokenError: this side is stopping, whether or not something came.
        """
        ready = self._poll.poll(max(0.0, seconds) * 1000)
        if not ready:
            raise TimedOutError(f"silent for {seconds:.3g} s")
        if any(descriptor == self._waker for descriptor, _ in ready):
            raise WokenError

    def wait_for_message(self, seconds: float) -> None:
        """Wait until there is something to read; bytes that were read ahead count too.

        Raises the errors of `wait`. WokenError is raised even if the next message has already come.
        """
        if not self.has_read_ahead():
            self.wait(seconds)
        elif any(descriptor == self._waker for descriptor, _ in self._poll.poll(0)):
            raise WokenError

    # ---- reading -------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Read at least one byte into the buffer, behind the bytes that were read ahead."""
        self.before_read()
        if self._start == self._end:
            self._start = self._end = 0
        free = len(self._buffer) - self._end
        if not free:
            self._make_space(len(self._buffer))
            free = len(self._buffer) - self._end
        if self.deadline is not _NEVER and time.monotonic() >= self.deadline:
            raise TimedOutError("a PDU did not come to its end in time")
        try:
            count = self._receive(self._view[self._end :])
        except BlockingIOError:
            raise TimedOutError(f"silent for {self._silence_seconds:.3g} s in a message") from None
        except OSError as error:
            raise ClosedByPeerError(f"connection lost: {error.strerror}") from error
        if not count:
            raise ClosedByPeerError("connection closed by the peer")
        if _QUICKACK is not None:
            with contextlib.suppress(OSError):  # just reset: the next read reports it
                self._sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        self._end += count
        if count == free < _FULL_BUFFER_BYTES and len(self._buffer) < _FULL_BUFFER_BYTES:
            self._make_space(_FULL_BUFFER_BYTES)

    def _receive(self, space: memoryview) -> int:
        """Read into `space`, blocking; return 0 at the end of the stream."""
        return self._sock.recv_into(space)

    def _make_space(self, size: int) -> None:
        """Move the bytes that were read ahead to the front of the buffer, and grow it to at least `size`."""
        held = self._end - self._start
        if size > len(self._buffer) or held == len(self._buffer):
            larger = bytearray(max(size, 2 * held))
            larger[:held] = self._view[self._start : self._end]
            self._buffer, self._view = larger, memoryview(larger)
        else:
            self._buffer[:held] = self._buffer[self._start : self._end]
        self._start, self._end = 0, held

    def take(self, count: int) -> bytes:
        """Return a copy of the next `count` bytes; for small amounts only."""
        while self._end - self._start < count:
            self._fill()
        raw = bytes(self._view[self._start : self._start + count])
        self._start += count
        return raw

    def take_before_deadline(self, count: int) -> bytes:
        """Return a copy of the next `count` bytes, which must come before `deadline`.

        Unlike `take`, this ends when the acceptor stops. It is used outside of the data transfer.

        Raises:
            WokenError: this side is stopping.
        """
        while self._end - self._start < count:
            self.wait(self.deadline - time.monotonic())
            self._fill()
        return self.take(count)

    def piece(self, limit: int) -> memoryview:
        """Return 1 to `limit` of the next bytes; the view is valid until the next call of `before_read`."""
        if self._start == self._end:
            self._fill()
        start = self._start
        self._start = end = min(start + limit, self._end)
        return self._view[start:end]

    def skip(self, count: int) -> None:
        """Read `count` bytes and ignore them."""
        while count:
            count -= len(self.piece(count))

    def header(self) -> tuple[int, int]:
        """Return type and length of the next PDU."""
        pdu_type, length = self._unpacked(HEADER)
        return pdu_type, length

    def _unpacked(self, fields: struct.Struct) -> tuple[int, ...]:
        """Return the next fields, without a copy of their bytes."""
        while self._end - self._start < fields.size:
            self._fill()
        found = fields.unpack_from(self._buffer, self._start)
        self._start += fields.size
        return found

    def pdv_header(self, remaining: int) -> tuple[int, int, int]:
        """Return context id, message control header and number of data bytes of the next PDV.

        `remaining` is how many bytes of the P-DATA PDU are left (PS3.8 §9.3.5, Tables 9-22 and 9-23).

        Raises:
            PduError: the PDV is longer than the rest of the PDU.
        """
        if remaining < PDV_OVERHEAD:
            raise PduError("P-DATA-TF too short for a presentation data value")
        length, context_id, control = self._unpacked(PDV_HEADER)
        if not 2 <= length <= remaining - 4:  # noqa: PLR2004  the length counts context id and control header
            raise PduError(f"presentation data value of {length} bytes in {remaining} of a P-DATA-TF")
        return context_id, control, length - 2

    def abort_error(self, length: int) -> AbortedByPeerError:
        """Read the body of an A-ABORT, and return the error for it."""
        if length != SHORT_BYTES:
            return AbortedByPeerError("aborted by the peer")
        body = self.take(SHORT_BYTES)
        return AbortedByPeerError(f"aborted by the peer: source {body[2]}, reason {body[3]}")

    # ---- writing -------------------------------------------------------------------------------------

    def send(self, data: bytes | memoryview) -> None:
        """Write all of `data` to the socket.

        Raises:
            TimedOutError: the peer reads nothing.
            AbortedByPeerError: the connection is closed, and the peer sent an A-ABORT before.
            ClosedByPeerError: the connection is closed.
        """
        try:
            self._transmit(data)
        except BlockingIOError:
            raise TimedOutError(f"peer took nothing for {self._silence_seconds:.3g} s") from None
        except OSError as error:
            raise self._closing_error(error) from error

    def _transmit(self, data: bytes | memoryview) -> None:
        self._sock.sendall(data)

    def _closing_error(self, error: OSError) -> AssociationBrokenError:
        """Return why the connection ended while we sent: the peer may have sent an A-ABORT before."""
        with contextlib.suppress(OSError):  # nothing to read
            self._sock.settimeout(0)
            raw = self._sock.recv(HEADER.size + SHORT_BYTES)
            if len(raw) == HEADER.size + SHORT_BYTES and raw[0] == ABORT:
                return AbortedByPeerError(f"aborted by the peer: source {raw[-2]}, reason {raw[-1]}")
        return ClosedByPeerError(f"connection lost: {error.strerror}")

    def send_last(self, data: bytes, linger_seconds: float) -> None:
        """Send the last PDU of an association and wait for the peer to close (PS3.8 §9.2, Sta13).

        Closing at once, with bytes unread, would reset the connection, and the peer could lose our last
        response. The wait is limited in time and bytes. Nothing is raised, because the association is over
        anyway.
        """
        with contextlib.suppress(OSError):
            self._sock.settimeout(0)
            if data:
                self._sock.send(data)
            self._sock.shutdown(socket.SHUT_WR)
            until = time.monotonic() + linger_seconds
            drained = 0
            poll = select.poll()
            poll.register(self._sock, select.POLLIN)
            while drained < _LINGER_BYTES and poll.poll(max(0.0, until - time.monotonic()) * 1000):
                count = self._sock.recv_into(self._view)
                if not count:
                    return
                drained += count

    def close(self) -> None:
        """Close the socket; raise nothing, because the association is over anyway."""
        with contextlib.suppress(OSError):
            self._sock.close()
