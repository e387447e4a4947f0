"""The Storage SCP: one parent that binds the port, and the receivers that accept on it.

The parent binds once, exclusively, and forks one receiver per core; they share the listening socket and
the table of open associations. The parent holds no thread and no connection, so that forking is safe;
it puts a receiver that died back within a second (G6) and frees the association slots it left.

SIGTERM: no new associations; instances in flight are finished and answered; then everybody leaves. What
does not finish within `edge.stop_grace_seconds` is abandoned: its sender got no Success.
"""

import gc
import os
import selectors
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from gateway import log
from gateway.config import Configuration, Edge
from gateway.database.pool import Database
from gateway.database.tables.faults import FaultWatch
from gateway.database.wakeup import Wakeup
from gateway.dicom.acceptor import Acceptor
from gateway.dicom.contexts import storage_sop_classes
from gateway.dicom.policy import Timeouts
from gateway.dicom.tls import acceptor_context
from gateway.errors import ConfigurationError, GatewayError
from gateway.faults import Faults
from gateway.log import Stage
from gateway.receive.admission import WAITING_PLACES, Admission, UnassociatedConnections
from gateway.receive.c_store import ReceiverContext
from gateway.receive.commit import Committer
from gateway.receive.limits import AssociationLimits, ConnectionCounts
from gateway.receive.origin import Origins
from gateway.spool.spool import Spool

BACKLOG = 512
RESTART_SECONDS = 0.5
YIELD_SECONDS = 0.001
"""How long a receiver that serves more connections than another leaves a new one to that one. Must exceed
what an idle process takes to wake up; where the other hangs it is what a connection waits longer."""
NOT_ACCEPTED_SECONDS = 0.05
"""The pause after a connection that could not be taken keeps the receiver from spinning."""
DATABASE_CONNECTIONS = 4
THREAD_STACK_BYTES = 512 * 1024


def serve(configuration: Configuration, dsn: str, *, ready: Callable[[int], None] | None = None) -> int:
    """Run the SCP until SIGTERM or SIGINT; the exit code. `ready` is told the port once it accepts."""
    edge = configuration.edge
    _tls(edge)
    _spool(configuration).prepare()
    listener = _bind(edge.bind_address, edge.port)
    # Before the fork, so that each receiver is ready at once and shares these tables with its siblings.
    storage_sop_classes()
    gc.freeze()
    limits = AssociationLimits(edge.max_associations, edge.max_associations_per_peer)
    parent = _Parent(configuration, dsn, listener, limits)
    log.write(
        Stage.RECEIVE,
        "listening",
        called_ae_title=edge.ae_title,
        detail=f"{edge.bind_address}:{listener.getsockname()[1]}",
        count=parent.count,
    )
    if ready is not None:
        ready(listener.getsockname()[1])
    return parent.run()


def _bind(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    # Only over a closed listener's waiting connections: no SO_REUSEPORT, so that a second SCP is refused.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {address}:{port}: {error.strerror}; is another SCP running? see edge.port"
        ) from error
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def _tls(edge: Edge) -> ssl.SSLContext | None:
    """The context of `edge.tls`, made before the port is bound; the receivers inherit it."""
    tls = edge.tls
    if tls is None:
        return None
    return acceptor_context(tls.certificate, tls.key, tls.ca, where="edge.tls")


def _spool(configuration: Configuration) -> Spool:
    edge = configuration.edge
    return Spool(edge.data_root, reserve_bytes=edge.disk_reserve_mb << 20)


class _Parent:
    """Forks the receivers and keeps their number."""

    def __init__(
        self, configuration: Configuration, dsn: str, listener: socket.socket, limits: AssociationLimits
    ) -> None:
        self._configuration = configuration
        self._dsn = dsn
        self._listener = listener
        self._limits = limits
        self._receivers: dict[int, int] = {}  # process -> its place in `_shares`
        self._stopping = False
        self.count = configuration.edge.receivers or os.cpu_count() or 1
        self._shares = ConnectionCounts(self.count)

    def run(self) -> int:
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        for place in range(self.count):
            self._fork(place)  # does nothing once we are asked to stop
        while self._receivers and not self._stopping:
            self._reap_one()
        return self._stop()

    def _on_stop(self, _number: int, _frame: object) -> None:
        self._stopping = True
        for receiver in self._receivers:
            with suppress(ProcessLookupError):
                os.kill(receiver, signal.SIGTERM)

    def _fork(self, place: int) -> None:
        # A signal between fork and the child's own handlers must not be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        if self._stopping:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
            return  # whoever is forked now would never be told
        process = os.fork()
        if process == 0:
            code = 1
            try:
                shares = self._shares
                shares.tell(place, 0)
                code = _Receiving(
                    self._configuration,
                    self._dsn,
                    self._listener,
                    self._limits,
                    tell=lambda connections: shares.tell(place, connections),
                    has_more=lambda: shares.has_more(place),
                ).run()
            except GatewayError as error:
                log.write(Stage.RECEIVE, "receiver_failed", level="error", error=str(error))
            except Exception as error:  # noqa: BLE001  the boundary of the process
                log.write(
                    Stage.RECEIVE,
                    "receiver_failed",
                    level="error",
                    error=f"unforeseen {type(error).__name__}",
                    detail=log.frames(error),
                )
            finally:
                os._exit(code)  # the parent's cleanups are the parent's
        self._receivers[process] = place
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})

    def _reap_one(self) -> None:
        process, status = os.wait()
        place = self._receivers.pop(process)
        freed = self._limits.forget(process)
        if self._stopping:
            return
        log.write(
            Stage.RECEIVE,
            "receiver_died",
            level="error",
            error=f"receiver {process} ended with {os.waitstatus_to_exitcode(status)}; starting another",
            count=freed,
        )
        time.sleep(RESTART_SECONDS)
        if not self._stopping:
            self._fork(place)

    def _stop(self) -> int:
        self._listener.close()
        limit = time.monotonic() + self._configuration.edge.stop_grace_seconds + 1
        while self._receivers and time.monotonic() < limit:
            process, _ = os.waitpid(-1, os.WNOHANG)
            self._receivers.pop(process, None)
            if not process:
                time.sleep(0.02)
        for receiver in self._receivers:
            with suppress(ProcessLookupError):
                os.kill(receiver, signal.SIGKILL)
        for receiver in self._receivers:
            with suppress(ChildProcessError):
                os.waitpid(receiver, 0)
        log.write(Stage.RECEIVE, "stopped", count=len(self._receivers))
        return 0


class _Receiving:
    """One receiver process: a thread per association."""

    def __init__(
        self,
        configuration: Configuration,
        dsn: str,
        listener: socket.socket,
        limits: AssociationLimits,
        *,
        tell: Callable[[int], None],
        has_more: Callable[[], bool],
    ) -> None:
        edge = configuration.edge
        self._listener = listener
        self._tell = tell
        self._has_more = has_more
        self._grace = edge.stop_grace_seconds
        self._database = Database(
            dsn,
            application_name="mini-pacs receiver",
            size=DATABASE_CONNECTIONS,
            deadline_seconds=edge.commit_timeout_seconds,
        )
        self._spool = _spool(configuration)
        self._wakeup = Wakeup(dsn)
        faults = Faults()
        self._watch = FaultWatch(self._database, faults)
        self._waiting = UnassociatedConnections()
        committer = Committer(self._database, window=edge.duplicate_window)
        origins = Origins(configuration.forwarder)
        receiver = ReceiverContext(
            configuration, self._spool, self._database, committer, self._wakeup, faults, origins
        )
        policy = Admission(configuration, receiver, limits, self._waiting)
        self._acceptor = Acceptor(
            policy,
            edge.max_pdu_bytes,
            Timeouts(edge.artim_timeout_seconds, edge.network_timeout_seconds, edge.idle_timeout_seconds),
            tls=_tls(edge),
            contexts=policy.contexts,
        )
        self._threads: set[threading.Thread] = set()
        self._max_threads = edge.max_associations + WAITING_PLACES
        self._stopping = False
        self._parent = os.getppid()

    def run(self) -> int:
        self._signal_read, self._signal_write = socket.socketpair()
        self._signal_write.setblocking(False)
        signal.set_wakeup_fd(self._signal_write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the parent, who asks us
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
        threading.stack_size(THREAD_STACK_BYTES)
        self._spool.open_receiver()
        self._watch.start()
        self._accept_until_stopped()
        self._finish()
        return 0

    def _on_stop(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _accept_until_stopped(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._signal_read, selectors.EVENT_READ)
            while not self._stopping:
                ready = selector.select(timeout=1.0)
                if os.getppid() != self._parent:
                    return  # the parent was killed: whoever starts it anew binds the port anew
                for key, _ in ready:
                    if key.fileobj is self._listener:
                        self._accept()

    def _accept(self) -> None:
        if self._has_more():
            time.sleep(YIELD_SECONDS)
        try:
            connection, address = self._listener.accept()
        except BlockingIOError:
            return  # another receiver was faster
        except OSError as error:
            # out of descriptors, or the peer was gone already
            self._not_accepted(error.strerror)
            return
        if len(self._threads) >= self._max_threads:
            connection.close()  # unread: a thread for each of ten thousand would be the end of the rest
            return
        connection.setblocking(True)
        thread = threading.Thread(target=self._serve, args=(connection, address), daemon=True)
        self._threads.add(thread)
        self._tell(len(self._threads))
        try:
            thread.start()
        except RuntimeError as error:
            # out of threads (pids.max, memory): one connection goes, and the associations stay
            self._threads.discard(thread)
            self._tell(len(self._threads))
            connection.close()
            self._not_accepted(str(error))

    @staticmethod
    def _not_accepted(error: str | None) -> None:
        log.write(Stage.RECEIVE, "not_accepted", level="warning", error=error)
        time.sleep(NOT_ACCEPTED_SECONDS)

    def _serve(self, connection: socket.socket, address: tuple[str, int]) -> None:
        try:
            self._waiting.enter(connection)
            self._acceptor.serve(connection, address)
        except Exception as error:  # noqa: BLE001  the boundary of the thread: one association, not the receiver
            log.write(
                Stage.RECEIVE,
                "association_failed",
                level="error",
                remote_address=address[0],
                error=f"unforeseen {type(error).__name__}",
                detail=log.frames(error),
            )
        finally:
            self._waiting.leave()
            self._threads.discard(threading.current_thread())
            self._tell(len(self._threads))

    def _finish(self) -> None:
        # At once, not at the end: a connection in the backlog would wait for nobody, and where the parent was
        # killed its successor needs the port while a slow sender here is still finishing.
        self._listener.close()
        self._acceptor.stop()
        limit = time.monotonic() + self._grace
        for thread in list(self._threads):
            thread.join(max(0.0, limit - time.monotonic()))
        self._watch.stop()
        self._wakeup.close()
        self._spool.close_receiver()
        self._database.close()
