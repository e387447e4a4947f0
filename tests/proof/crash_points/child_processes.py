"""The real programs as forked processes: modules are imported once, so a crash and a restart take a second.

Each is the leader of a process group, prints into its own file, and is ended by a kill. The parent has no
threads, so it may fork; connections and children of a process end with it.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import dramatiq
import dramatiq_pg  # noqa: F401  imported once for all children, as the next
import periodiq  # noqa: F401
from support.peers import Peer, Taken

from cli.serve import serve
from gateway import config
from gateway.database.dsn import dsn_from_environment
from gateway.database.pool import Database
from gateway.database.wakeup import Wakeup
from gateway.dicom.contexts import storage_sop_classes
from gateway.dicom.policy import StoreRequest
from gateway.domain.dimse_status import Status
from gateway.spool.spool import Spool
from gateway.sweep.context import SweepContext
from gateway.sweep.expire import expire
from gateway.sweep.purge import purge
from gateway.sweep.reconcile import reconcile
from gateway.sweep.rescue import rescue

SWEEP_EVERY_SECONDS = 0.05

storage_sop_classes()  # takes half a second, so it is kept


class Child:
    """One forked process."""

    def __init__(self, work: Callable[[], object], output: Path) -> None:
        self.output = output
        self.status: int | None = None
        """The exit code as by `os.waitstatus_to_exitcode`; None while it runs."""
        self._pid = os.fork()
        if not self._pid:
            _be(work, output)

    def ended(self) -> bool:
        """Tell whether it has ended by now."""
        if self.status is None:
            process, status = os.waitpid(self._pid, os.WNOHANG)
            if process:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def kill(self) -> None:
        """Kill it and every process that it forked."""
        for end in (os.killpg, os.kill):  # it may not lead a group yet
            with suppress(ProcessLookupError):
                end(self._pid, signal.SIGKILL)
        if self.status is None:
            _, status = os.waitpid(self._pid, 0)
            self.status = os.waitstatus_to_exitcode(status)

    def text(self) -> str:
        """Return its output."""
        return self.output.read_text(encoding="utf-8", errors="replace") if self.output.exists() else ""


def _be(work: Callable[[], object], output: Path) -> NoReturn:
    code = 1
    try:
        os.setsid()
        sink = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        work()
        code = 0
    except BaseException:  # noqa: BLE001  the boundary of the process
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


# ---- the gateway ---------------------------------------------------------------------------------


def scp() -> None:
    """Run `mini-pacs serve`."""
    serve(print_log=False)


def actors(queues: tuple[str, ...], threads: int) -> Callable[[], None]:
    """Run what the forked worker process of `dramatiq actors -p 1` does."""

    def work() -> None:
        # The import builds the broker for this run's DATABASE_URL, also after an import in our parent.
        for name in [name for name in sys.modules if name.partition(".")[0] == "actors"]:
            del sys.modules[name]
        import actors  # noqa: F401, PLC0415

        broker = dramatiq.get_broker()
        broker.emit_after("process_boot")  # type: ignore[no-untyped-call]
        dramatiq.Worker(broker, queues=set(queues), worker_threads=threads).start()  # type: ignore[no-untyped-call]
        signal.pause()

    return work


def sweeper() -> None:
    """Run a sweep at once, without waiting for its minute."""
    configuration = config.load()
    dsn = dsn_from_environment()
    database = Database(dsn, application_name="campaign sweep", size=2)
    sweeping = SweepContext(configuration, database, Spool(configuration.edge.data_root), Wakeup(dsn))
    while True:
        for verb in (rescue, reconcile, expire, purge):
            verb(sweeping)
        time.sleep(SWEEP_EVERY_SECONDS)  # the interval between two looks


# ---- the peers -----------------------------------------------------------------------------------


class _Journal(list[Taken]):
    """The data sets that a peer took, each recorded before the answer."""

    def __init__(self, path: Path, port: int) -> None:
        super().__init__()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._port = port

    def append(self, taken: Taken) -> None:
        """Append one complete line."""
        super().append(taken)
        line = f"{self._port} {taken.sop_instance_uid} {taken.digest} {taken.status}\n"
        os.write(self._descriptor, line.encode())


def peers(ports: tuple[int, ...], journal: Path, ready: Path, once: Mapping[str, int]) -> Callable[[], None]:
    """Run Storage SCPs that accept everything; the SOP Instance UIDs of `once` get that answer first."""

    def work() -> None:
        left = dict(once)

        def answer(request: StoreRequest) -> int:
            return left.pop(request.sop_instance_uid, Status.SUCCESS)

        for port in ports:
            peer = Peer(port)
            peer.taken = _Journal(journal, port)
            peer.answer = answer
            peer.on()
        ready.touch()
        signal.pause()

    return work
