"""The bytes of one association: PDUs read from and written to a blocking socket.

One thread, no polling: a read blocks in the kernel until bytes come, the peer is silent for too long,
or the acceptor stops. Data is handed out as views into one buffer, in whatever pieces the network
delivers it, so that a PDU of any length needs no memory of its own.

Two details of TCP cost more than all our code when they are wrong. TCP_NODELAY on our side keeps
our last segment from waiting for the peer's ACK; TCP_QUICKACK, renewed after each read because
the kernel forgets it, keeps the last segment of a peer with Nagle on from waiting for ours (44 ms each).
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
"""An idle association, or one that only echoes, keeps the first; one that receives images the second."""

_LINGER_BYTES = 4 << 20
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux only
_NEVER = float("inf")


class ClosedByPeerError(AssociationBrokenError):
    """The stream ended, or was reset, without release or abort."""


class AbortedByPeerError(AssociationBrokenError):
    """The peer sent A-ABORT."""


class TimedOutError(AssociationBrokenError):
    """The peer was silent, or did not take what we sent, for too long."""


class WokenError(Exception):
    """The waker became readable while the association waited: this side is stopping."""


class Wire:
    """A connected socket with what was read ahead of it.

    `silence_seconds` bounds each blocking read and write; it must exceed the longest pause of an
    honest peer within a message. `waker` is a descriptor that ends `wait` when it becomes readable.
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
        "deadline",
    )

    def __init__(self, sock: socket.socket, *, silence_seconds: float, waker: int | None = None) -> None:
        self._sock = sock
        self._waker = waker
        self._silence_seconds = silence_seconds
        self.deadline = _NEVER
        """No read begins past this (monotonic seconds)."""
        self._buffer = bytearray(_FIRST_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        # The timeouts are the kernel's: those of Python's socket cost a poll before every read.
        sock.settimeout(None)
        interval = struct.pack("@ll", int(silence_seconds), int(silence_seconds % 1 * 1e6))
        with contextlib.suppress(OSError):  # a socket that is already reset: the first read will tell
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, interval)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poll = select.poll()  # not select.select, which ends at 1024 descriptors
        self._poll.register(sock, select.POLLIN)
        if waker is not None:
            self._poll.register(waker, select.POLLIN)

    # ---- waiting -------------------------------------------------------------------------------------

    def has_read_ahead(self) -> bool:
        """Tell whether bytes are here that were not consumed yet."""
        return self._start < self._end

    def is_readable(self) -> bool:
        """Tell, without waiting, whether the peer sent something or ended the stream."""
        return self.has_read_ahead() or bool(self._poll.poll(0))

    def wait(self, seconds: float) -> None:
        """Return when there is something to read.

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
        """The same, save that what was read ahead counts as something to read."""
        if not self.has_read_ahead():
            self.wait(seconds)
        elif any(descriptor == self._waker for descriptor, _ in self._poll.poll(0)):
            raise WokenError

    # ---- reading -------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Read what is there, at least one byte, behind what was read ahead."""
        if self._start == self._end:
            self._start = self._end = 0
        free = len(self._buffer) - self._end
        if not free:
            self._make_room(len(self._buffer))
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
            with contextlib.suppress(OSError):  # reset meanwhile: the next read will tell
                self._sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        self._end += count
        if count == free < _FULL_BUFFER_BYTES and len(self._buffer) < _FULL_BUFFER_BYTES:
            self._make_room(_FULL_BUFFER_BYTES)

    def _receive(self, room: memoryview) -> int:
        """Read into `room`, blocking; 0 at the end of the stream."""
        return self._sock.recv_into(room)

    def _make_room(self, size: int) -> None:
        """Move what was read ahead to the front of a buffer of at least `size` with room behind it."""
        held = self._end - self._start
        if size > len(self._buffer) or held == len(self._buffer):
            larger = bytearray(max(size, 2 * held))
            larger[:held] = self._view[self._start : self._end]
            self._buffer, self._view = larger, memoryview(larger)
        else:
            self._buffer[:held] = self._buffer[self._start : self._end]
        self._start, self._end = 0, held

    def take(self, count: int) -> bytes:
        """The next `count` bytes, copied; for what is bounded and small."""
        while self._end - self._start < count:
            self._fill()
        raw = bytes(self._view[self._start : self._start + count])
        self._start += count
        return raw

    def take_patiently(self, count: int) -> bytes:
        """The same before `deadline`, waking up for `waker`; for what precedes the association.

        Raises:
            WokenError: this side is stopping.
        """
        while self._end - self._start < count:
            self.wait(self.deadline - time.monotonic())
            self._fill()
        return self.take(count)

    def piece(self, limit: int) -> memoryview:
        """Between 1 and `limit` of the next bytes; valid until the next call of anything here."""
        if self._start == self._end:
            self._fill()
        start = self._start
        self._start = end = min(start + limit, self._end)
        return self._view[start:end]

    def skip(self, count: int) -> None:
        """Read over `count` bytes."""
        while count:
            count -= len(self.piece(count))

    def header(self) -> tuple[int, int]:
        """Type and length of the next PDU; its end must then come within `silence_seconds`."""
        pdu_type, length = HEADER.unpack(self.take(HEADER.size))
        return pdu_type, length

    def pdv_header(self, remaining: int) -> tuple[int, int, int]:
        """Context id, message control header and number of data bytes of the next PDV in a P-DATA PDU.

        `remaining` is what is left of the PDU (PS3.8 §9.3.5, Tables 9-22 and 9-23).

        Raises:
            PduError: it does not fit the PDU.
        """
        if remaining < PDV_OVERHEAD:
            raise PduError("P-DATA-TF too short for a presentation data value")
        length, context_id, control = PDV_HEADER.unpack(self.take(PDV_OVERHEAD))
        if not 2 <= length <= remaining - 4:  # noqa: PLR2004  it counts context id and control header
            raise PduError(f"presentation data value of {length} bytes in {remaining} of a P-DATA-TF")
        return context_id, control, length - 2

    def abort_error(self, length: int) -> AbortedByPeerError:
        """The error that an A-ABORT stands for, its body read."""
        if length != SHORT_BYTES:
            return AbortedByPeerError("aborted by the peer")
        body = self.take(SHORT_BYTES)
        return AbortedByPeerError(f"aborted by the peer: source {body[2]}, reason {body[3]}")

    # ---- writing -------------------------------------------------------------------------------------

    def send(self, data: bytes | memoryview) -> None:
        """Hand all of `data` to the kernel.

        Raises:
            TimedOutError: the peer takes nothing any more.
            AbortedByPeerError: the connection is gone, and an A-ABORT is what the peer said last.
            ClosedByPeerError: the connection is gone.
        """
        try:
            self._transmit(data)
        except BlockingIOError:
            raise TimedOutError(f"peer took nothing for {self._silence_seconds:.3g} s") from None
        except OSError as error:
            raise self._last_word(error) from error

    def _transmit(self, data: bytes | memoryview) -> None:
        self._sock.sendall(data)

    def _last_word(self, error: OSError) -> AssociationBrokenError:
        """Why the peer went away in the middle of what we sent: it may have said so before."""
        with contextlib.suppress(OSError):  # there is no last word to read
            self._sock.settimeout(0)
            raw = self._sock.recv(HEADER.size + SHORT_BYTES)
            if len(raw) == HEADER.size + SHORT_BYTES and raw[0] == ABORT:
                return AbortedByPeerError(f"aborted by the peer: source {raw[-2]}, reason {raw[-1]}")
        return ClosedByPeerError(f"connection lost: {error.strerror}")

    def send_last(self, data: bytes, linger_seconds: float) -> None:
        """Send the last PDU of an association and wait for the peer to close (PS3.8 §9.2, Sta13).

        Closing at once, with bytes unread, would reset the connection and could take our last
        response from under the peer. The wait is bounded in time and bytes; nothing is raised,
        because the association is over either way.
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
        """Close the socket; nothing is raised, because the association is over either way."""
        with contextlib.suppress(OSError):
            self._sock.close()
