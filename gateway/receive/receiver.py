"""One receiver process: accept connections and serve each association on a thread of its own.

A receiver exits when it gets SIGTERM or when its parent is gone. It then accepts nothing more, finishes the
instances in flight within `edge.stop_grace_seconds`, and closes its folder in the spool.

If the process dies
    at any line   its associations break, and the senders send again what was not answered. The next receiver
                  registers what it left, because the lock of its folder is free
"""

import os
import selectors
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable

from gateway import log
from gateway.config import Configuration
from gateway.config.edge import Edge
from gateway.database.tables.processes import Beat
from gateway.dicom.acceptor import Acceptor
from gateway.dicom.policy import Timeouts
from gateway.dicom.tls import acceptor_context
from gateway.domain.refusal import Reason
from gateway.log import Stage
from gateway.processes.document import with_values_of_start
from gateway.processes.handover import Handover
from gateway.receive.admission import Admission
from gateway.receive.context import ReceiverContext
from gateway.receive.limits import AssociationLimits, ConnectionCounts
from gateway.receive.observed import observer
from gateway.receive.offered_syntaxes import OfferedSyntaxes
from gateway.receive.services import ReceiverServices
from gateway.receive.unassociated import MAX_UNASSOCIATED, UnassociatedConnections

YIELD_SECONDS = 0.001
"""How long a receiver with more connections than another waits before it accepts, so that the other one takes
the connection. Must exceed the time in which an idle process wakes up. If the other one hangs, each
connection is accepted this much later."""
ACCEPT_PAUSE_SECONDS = 0.05
"""The pause after a connection that could not be accepted, so that the loop does not spin."""
MIN_REGISTER_SECONDS = 2.0
"""How long a receiver that stops may register at least, also if its senders used up the grace."""
THREAD_STACK_BYTES = 512 * 1024


def tls_of(edge: Edge) -> ssl.SSLContext | None:
    """Return the TLS context of `edge.tls`; None without TLS.

    Raises:
        ConfigurationError: the certificate, key or CA cannot be used.
    """
    tls = edge.tls
    if tls is None:
        return None
    return acceptor_context(tls.certificate, tls.key, tls.ca, where="edge.tls")


def _timeouts(edge: Edge) -> Timeouts:
    return Timeouts(edge.artim_timeout_seconds, edge.network_timeout_seconds, edge.idle_timeout_seconds)


class Receiver:
    """The program of a receiver process, after the fork. `index` is its entry in `counts`."""

    def __init__(
        self,
        configuration: Configuration,
        dsn: str,
        listener: socket.socket,
        limits: AssociationLimits,
        *,
        counts: ConnectionCounts,
        index: int,
        parent: Callable[[], Beat],
        handover: Handover,
        is_first: bool,
    ) -> None:
        loaded = handover.read(configuration)
        if loaded is not configuration:
            configuration = with_values_of_start(loaded, configuration)
        edge = configuration.edge
        self._limits = limits
        limits.change(edge.max_associations, edge.max_associations_per_peer)
        self._listener = listener
        self._counts = counts
        self._index = index
        self._count_connections(0)
        self._grace = edge.stop_grace_seconds
        self._threads: set[threading.Thread] = set()
        self._services = ReceiverServices(
            configuration,
            loaded,
            dsn,
            handover,
            parent=parent,
            is_first=is_first,
            associations=lambda: len(self._threads),
            change=self._change,
            refresh=self._refresh_offered,
        )
        context = self._services.context
        self._refusals = context.refusals
        self._unassociated = UnassociatedConnections()
        self._admission = Admission(configuration, context, limits, self._unassociated)
        self._offered = OfferedSyntaxes()
        self._acceptor = Acceptor(
            self._admission,
            edge.max_pdu_bytes,
            _timeouts(edge),
            tls=tls_of(edge),
            contexts=self._admission.contexts,
            observer=observer(self._refusals),
        )
        self._max_threads = edge.max_associations + MAX_UNASSOCIATED
        self._stopping = False
        self._parent = os.getppid()

    def run(self) -> int:
        """Serve until SIGTERM, or until the parent is gone; return the exit code."""
        self._signal_read, self._signal_write = socket.socketpair()
        self._signal_write.setblocking(False)
        signal.set_wakeup_fd(self._signal_write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which sends SIGTERM
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
        threading.stack_size(THREAD_STACK_BYTES)
        self._services.start()
        self._accept_until_stopped()
        self._finish()
        return 0

    def _change(self, configuration: Configuration, context: ReceiverContext) -> None:
        """Take another configuration, for the next associations and instances."""
        edge = configuration.edge
        self._limits.change(edge.max_associations, edge.max_associations_per_peer)
        self._max_threads = edge.max_associations + MAX_UNASSOCIATED
        self._admission.change(configuration, context)
        if edge.accepts_as_archives:  # until the next refresh
            self._admission.contexts.transfer_syntaxes = self._offered.current
        self._acceptor.change(edge.max_pdu_bytes, _timeouts(edge), self._admission.contexts)

    def _refresh_offered(self) -> None:
        services = self._services
        self._offered.refresh(
            services.context.configuration, services.registering.database, self._admission.contexts
        )

    def _on_stop(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _accept_until_stopped(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._signal_read, selectors.EVENT_READ)
            while not self._stopping:
                ready = selector.select(timeout=1.0)
                if os.getppid() != self._parent:
                    return  # the parent was killed; its successor must be able to bind the port
                for key, _ in ready:
                    if key.fileobj is self._listener:
                        self._accept()

    def _accept(self) -> None:
        if self._counts.is_above_least(self._index):
            time.sleep(YIELD_SECONDS)
        try:
            connection, address = self._listener.accept()
        except BlockingIOError:
            return  # another receiver was faster
        except OSError as error:
            # No file descriptor is free, or the peer has gone.
            self._log_not_accepted(error.strerror)
            return
        if len(self._threads) >= self._max_threads:
            connection.close()  # one more thread could exhaust the memory of this process
            self._refusals.note(Reason.TOO_MANY_CONNECTIONS, remote_address=address[0])
            return
        connection.setblocking(True)
        thread = threading.Thread(target=self._serve, args=(connection, address), daemon=True)
        self._threads.add(thread)
        self._count_connections(len(self._threads))
        try:
            thread.start()
        except RuntimeError as error:
            # No thread can be started (pids.max, memory). Close this connection; keep the associations.
            self._threads.discard(thread)
            self._count_connections(len(self._threads))
            connection.close()
            self._refusals.note(
                Reason.TOO_MANY_CONNECTIONS, remote_address=address[0], detail=f"no thread: {error}"
            )
            self._log_not_accepted(str(error))

    @staticmethod
    def _log_not_accepted(error: str | None) -> None:
        log.write(Stage.RECEIVE, "not_accepted", level="warning", error=error)
        time.sleep(ACCEPT_PAUSE_SECONDS)

    def _serve(self, connection: socket.socket, address: tuple[str, int]) -> None:
        try:
            self._unassociated.enter(connection)
            self._acceptor.serve(connection, address)
        except Exception as error:  # noqa: BLE001  the boundary of the thread: ends one association only
            log.write(
                Stage.RECEIVE,
                "association_failed",
                level="error",
                remote_address=address[0],
                error=f"unforeseen {type(error).__name__}",
                detail=log.frames(error),
            )
        finally:
            self._unassociated.leave()
            self._threads.discard(threading.current_thread())
            self._count_connections(len(self._threads))

    def _finish(self) -> None:
        # Close the listener first: nothing is accepted from here on. If the parent was killed, its successor
        # needs the port while a slow sender is still being served here.
        self._listener.close()
        self._acceptor.stop()
        limit = time.monotonic() + self._grace
        for thread in list(self._threads):
            thread.join(max(0.0, limit - time.monotonic()))
        self._services.stop(max(MIN_REGISTER_SECONDS, limit - time.monotonic()))

    def _count_connections(self, count: int) -> None:
        self._counts.set(self._index, count)
