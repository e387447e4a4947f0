"""The Storage SCP: a parent process that binds the port, and the receivers that accept on it.

The parent binds the port once, exclusively, and forks one receiver per core. They share the listening socket
and the table of open associations. The parent has no thread and no database connection, so forking is safe.

If the process dies
    a receiver   the parent starts another within a second and frees its association slots (G6); its senders
                 have no answer and send again. The new one registers what the dead one acknowledged
    the parent   the receivers finish the instances in flight and exit; a supervisor starts it again

SIGTERM: accept no new associations, finish and answer the instances in flight, register them, exit. An
instance that takes longer than `edge.stop_grace_seconds` is aborted; its sender has no answer and sends
again.
"""

import gc
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from gateway import log
from gateway.config import Configuration
from gateway.database.tables.processes import Beat, ProcessKind
from gateway.dicom.contexts import storage_sop_classes
from gateway.errors import ConfigurationError, GatewayError
from gateway.log import Stage
from gateway.processes.handover import Handover
from gateway.processes.heartbeat import OwnProcess
from gateway.processes.parent_pulse import ParentPulse
from gateway.receive.limits import AssociationLimits, ConnectionCounts
from gateway.receive.receiver import Receiver, tls_of
from gateway.receive.registering import spool_of
from gateway.receive.services import address_of_scp

BACKLOG = 512
RESTART_SECONDS = 0.5
"""The pause before a dead receiver is replaced. A receiver that dies at each start must not keep a core
busy."""


def serve(configuration: Configuration, dsn: str, *, ready: Callable[[int], None] | None = None) -> int:
    """Run the SCP until SIGTERM or SIGINT; return the exit code.

    `ready` is called with the port once connections are accepted.
    """
    edge = configuration.edge
    tls_of(edge)  # refuse to start with a bad certificate
    spool_of(configuration).prepare()
    listener = _bind(edge.bind_address, edge.port)
    # Before the fork: the receivers share the memory of these tables and are ready at once.
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
    # Allows a restart while old connections are in TIME_WAIT. No SO_REUSEPORT: a second SCP must fail here.
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


class _Parent:
    """Forks the receivers and replaces those that die."""

    def __init__(
        self, configuration: Configuration, dsn: str, listener: socket.socket, limits: AssociationLimits
    ) -> None:
        self._configuration = configuration
        self._dsn = dsn
        self._listener = listener
        self._limits = limits
        self._receivers: dict[int, int] = {}  # process -> its index in `_counts`
        self._stopping = False
        self.count = configuration.edge.receivers or os.cpu_count() or 1
        self._pulse = ParentPulse()
        self._process = OwnProcess(
            ProcessKind.SERVE,
            address_of_scp(configuration.edge),
        )
        self._handover = Handover()
        self._counts = ConnectionCounts(self.count)

    def run(self) -> int:
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        self._pulse.start()
        for index in range(self.count):
            self._fork(index, is_first=True)  # does nothing after SIGTERM
        while self._receivers and not self._stopping:
            self._reap_one()
        return self._stop()

    def _on_stop(self, _number: int, _frame: object) -> None:
        self._stopping = True
        for receiver in self._receivers:
            with suppress(ProcessLookupError):
                os.kill(receiver, signal.SIGTERM)

    def _fork(self, index: int, *, is_first: bool = False) -> None:
        # Block signals until the child has its own handlers, so that none is lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        if self._stopping:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
            return  # `_on_stop` has run: a receiver forked now would get no SIGTERM
        process = os.fork()
        if process == 0:
            code = 1
            try:
                receiver = Receiver(
                    self._configuration,
                    self._dsn,
                    self._listener,
                    self._limits,
                    counts=self._counts,
                    index=index,
                    parent=self._beat,
                    handover=self._handover,
                    is_first=is_first,
                )
                code = receiver.run()
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
                os._exit(code)  # skip the parent's cleanup handlers, which the fork copied
        self._receivers[process] = index
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})

    def _beat(self) -> Beat:
        """Return the row of this process; the receivers write it."""
        return replace(self._process.beat(), beat_age=timedelta(seconds=self._pulse.age_seconds))

    def _reap_one(self) -> None:
        process, status = os.wait()
        index = self._receivers.pop(process)
        freed = self._limits.release_all(process)
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
            self._fork(index)

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
