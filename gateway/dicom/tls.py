"""TLS for associations: the contexts of both roles, the handshake, and a `Wire` over TLS.

This is the secure transport connection of PS3.15 §B.9: TLS 1.2 and later, with the cipher suites that Python
selects from OpenSSL's defaults. An association uses a `TlsWire` in the same way as a `Wire`. If the process
dies, the peer sees the connection end without close_notify.
"""

import contextlib
import select
import socket
import ssl
import time
from functools import cache
from pathlib import Path

from gateway.dicom.wire import ClosedByPeerError, TimedOutError, Wire, WokenError
from gateway.errors import ConfigurationError

_WANTS = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


class TlsError(ClosedByPeerError):
    """The handshake failed; `reason` is the word of OpenSSL, empty if the peer only closed."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


@cache
def acceptor_context(certificate: Path, key: Path, ca: Path | None, *, where: str) -> ssl.SSLContext:
    """Return the context for `edge.tls`; with `ca`, a peer must present a certificate that `ca` signed.

    Raises:
        ConfigurationError: a file cannot be read or used; the message names the config key (below `where`)
        and the file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.num_tickets = 0  # a peer that only writes may fail on tickets that it did not expect
    _load_own(context, certificate, key, where)
    if ca is not None:
        _load_ca(context, ca, where)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@cache
def requestor_context(
    certificate: Path | None, key: Path | None, ca: Path | None, *, check_host: bool, where: str
) -> ssl.SSLContext:
    """Return the context for a destination's `tls`; without `ca` the peer's certificate is not verified.

    Raises:
        ConfigurationError: as `acceptor_context`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = check_host and ca is not None
    if ca is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        _load_ca(context, ca, where)
    if certificate is not None and key is not None:
        _load_own(context, certificate, key, where)
    return context


def check_pair(certificate: Path, key: Path, where: str) -> None:
    """Check that a server can use a certificate and its key; `where` is their place in config.yaml.

    Raises:
        ConfigurationError: one cannot be read, is not PEM, is encrypted, or they do not belong together.
    """
    _load_own(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key, where)


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path, where: str) -> None:
    _check_readable(certificate, f"{where}.certificate")
    _check_readable(key, f"{where}.key")
    try:
        # Without this, OpenSSL asks at the terminal for the password of an encrypted key. With an empty
        # password, it refuses such a key.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ConfigurationError(
            f"{where}.certificate = {certificate} and {where}.key = {key}: {_reason(error)}; "
            "PEM, the key without a password and belonging to the certificate, is expected"
        ) from error


def _load_ca(context: ssl.SSLContext, ca: Path, where: str) -> None:
    _check_readable(ca, f"{where}.ca")
    try:
        context.load_verify_locations(ca)
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(
            f"{where}.ca = {ca}: {_reason(error)}; PEM certificates are expected"
        ) from error


def _check_readable(path: Path, key: str) -> None:
    try:
        with path.open("rb"):
            return
    except OSError as error:
        raise ConfigurationError(f"{key} = {path}: {error.strerror}") from error


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(reason or error)


def _word(error: OSError) -> str:
    return str(getattr(error, "reason", None) or "")


def start_tls(
    sock: socket.socket,
    context: ssl.SSLContext,
    *,
    deadline: float,
    silence_seconds: float,
    waker: int | None = None,
    server_hostname: str | None = None,
) -> "TlsWire":
    """Do the TLS handshake and return the wire; with `server_hostname`, as the client.

    Raises:
        TimedOutError: no end by `deadline` (monotonic seconds; for an acceptor, the end of ARTIM).
        WokenError: this side is stopping.
        TlsError: the peer closed, or one side refused the certificate of the other; the message
            says which.
    """
    sock.settimeout(0)
    try:
        with contextlib.suppress(OSError):  # already reset: the handshake reports it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wrapped = context.wrap_socket(
            sock,
            server_side=server_hostname is None,
            server_hostname=server_hostname,
            do_handshake_on_connect=False,
        )
    except OSError as error:
        raise TlsError(f"TLS handshake: {_reason(error)}") from error
    wire = TlsWire(wrapped, silence_seconds=silence_seconds, waker=waker)
    try:
        wire.handshake(deadline)
    except BaseException:
        wire.close()  # the caller cannot close it: `wrap_socket` has detached `sock`
        raise
    return wire


class TlsWire(Wire):
    """A `Wire` over TLS. The socket does not block; `poll` waits until TLS can read, or can write."""

    __slots__ = ("_secure",)
    _sock: ssl.SSLSocket

    def __init__(self, sock: ssl.SSLSocket, *, silence_seconds: float, waker: int | None = None) -> None:
        self._secure = sock
        super().__init__(sock, silence_seconds=silence_seconds, waker=waker)
        sock.settimeout(0)

    def handshake(self, deadline: float) -> None:
        """Do the handshake; see `start_tls`."""
        while True:
            try:
                self._secure.do_handshake()
            except _WANTS as want:
                self._await(want, deadline, "the TLS handshake did not end in time", wakes=True)
            except ssl.SSLCertVerificationError as error:
                raise TlsError(f"TLS: certificate refused: {error.verify_message}", _word(error)) from error
            except OSError as error:
                raise TlsError(f"TLS handshake: {_reason(error)}", _word(error)) from error
            else:
                return

    def _await(self, want: Exception, deadline: float, sentence: str, *, wakes: bool = False) -> None:
        """Wait until the socket is readable or writable, whichever `want` asks for."""
        poll = select.poll()
        poll.register(
            self._secure, select.POLLOUT if isinstance(want, ssl.SSLWantWriteError) else select.POLLIN
        )
        if wakes and self._waker is not None:
            poll.register(self._waker, select.POLLIN)
        ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ready:
            raise TimedOutError(sentence)
        if wakes and any(descriptor == self._waker for descriptor, _ in ready):
            raise WokenError

    # ---- the methods of Wire -------------------------------------------------------------------------

    def has_read_ahead(self) -> bool:
        """As in `Wire`; bytes that OpenSSL has read and not handed out count too."""
        return super().has_read_ahead() or self._secure.pending() > 0

    def is_readable(self) -> bool:
        """As in `Wire`; records without data, such as tickets, are processed and do not count."""
        if self.has_read_ahead():
            return True
        if not super().is_readable():
            return False
        try:
            self._fill_now()
        except _WANTS:
            return False
        except ClosedByPeerError:
            pass  # the end of the stream counts as readable; the next read raises it again
        return True

    def _fill_now(self) -> None:
        self._start = self._end = 0
        try:
            self._end = self._secure.recv_into(self._view)
        except _WANTS:
            raise
        except OSError as error:
            raise ClosedByPeerError(_reason(error)) from error

    def wait(self, seconds: float) -> None:
        """As in `Wire`; return at once if OpenSSL has read bytes and not handed them out."""
        if self._secure.pending():
            seconds = 0.0
            with contextlib.suppress(TimedOutError):
                super().wait(seconds)
            return
        super().wait(seconds)

    def _receive(self, space: memoryview) -> int:
        limit = min(self.deadline, time.monotonic() + self._silence_seconds)
        while True:
            try:
                return self._secure.recv_into(space)
            except _WANTS as want:
                self._await(want, limit, f"silent for {self._silence_seconds:.3g} s in a message")

    def _transmit(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            # A new limit for each write: a peer that reads slowly must not be timed out.
            limit = time.monotonic() + self._silence_seconds
            try:
                view = view[self._secure.send(view) :]
            except _WANTS as want:
                self._await(want, limit, f"peer took nothing for {self._silence_seconds:.3g} s")

    def send_last(self, data: bytes, linger_seconds: float) -> None:
        """Send `data` and close_notify, then wait as in `Wire`.

        The close_notify shows the peer that nothing was cut off (RFC 8446 §6.1).
        """
        # Nothing is raised, because the association is over anyway. ValueError: there was no handshake.
        with contextlib.suppress(OSError, ValueError):
            if data:
                self._secure.send(data)
            # Sends our close_notify. SSLWantReadError only means that the peer's close_notify is missing.
            self._secure.unwrap()
        super().send_last(b"", linger_seconds)
