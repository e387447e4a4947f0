"""Crash points: calls of a process with a lasting effect, and how the process is made to die there.

A point is the n-th call of its kind in the process and its children; the process dies `before` or `after`
it. A commit counts if PostgreSQL gave its transaction an id, which means that it wrote. `before` a commit,
everything else was done, and PostgreSQL rolls it back. `after` a commit, it is committed, but no process
has the answer. In a transaction that registers receptions, each statement counts as well. Writes count in
the spool only, so lines of the log do not. SIGKILL goes to the whole process group.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, cursor

from gateway.database.connection import Connection
from gateway.dicom.wire import Wire

if TYPE_CHECKING:
    from types import FrameType

ROOT = Path(__file__).resolve().parents[3]
_SPOOL = "gateway.spool."
_REGISTERS = ("gateway.register.", "gateway.correlate.")
"""Modules whose statements are points, also before the commit."""
_PASSED_OVER = ("gateway/database/", "gateway/dicom/wire.py", "gateway/dicom/tls.py")
"""Modules too general to name the step of the flow."""


class Kind(StrEnum):
    """The kind of call at a point."""

    CREATE = "create"
    """A new file of the spool."""
    WRITE = "write"
    """Bytes of a data set."""
    ENVELOPE = "envelope"
    """The envelope, into its place in the file."""
    FSYNC = "fsync"
    LINK = "link"
    RENAME = "rename"
    UNLINK = "unlink"
    FOLDER = "folder"
    """mkdir or rmdir."""
    STATEMENT = "statement"
    """A statement in a transaction that registers, before its commit."""
    COMMIT = "commit"
    CLAIM = "claim"
    """A commit of the queue's consumer: its registration, its claims, the reaper."""
    ACK = "ack"
    SEND = "send"
    """PDUs passed to the kernel."""


class When(StrEnum):
    """The process dies before or after the call."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Point:
    """The n-th of its kind, from 1."""

    kind: Kind
    number: int
    when: When

    def __str__(self) -> str:
        return f"{self.kind} {self.number} {self.when}"


_KIND_OF_CONNECTION = {"mini-pacs ack": Kind.ACK, "mini-pacs consumer": Kind.CLAIM}
_CALLS = {
    "fsync": Kind.FSYNC,
    "link": Kind.LINK,
    "rename": Kind.RENAME,
    "replace": Kind.RENAME,
    "unlink": Kind.UNLINK,
    "mkdir": Kind.FOLDER,
    "rmdir": Kind.FOLDER,
}
_IN_SPOOL = {"write": Kind.WRITE, "writev": Kind.WRITE, "pwrite": Kind.ENVELOPE}
_write = os.write
_NO_TRANSACTION = ("BEGIN", "ROLLBACK", "VACUUM", "SET ", "LISTEN", "UNLISTEN")


class Trap:
    """Counts the points of this process and its forks in the file `trace`; dies at the point `at`."""

    def __init__(self, trace: Path, at: Point | None) -> None:
        self._at = at
        self._counts = mmap(-1, 8 * len(Kind))  # shared with forked processes
        self._lock = threading.Lock()
        self._trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def set(self) -> None:
        """Start to count points in this process."""
        os.register_at_fork(after_in_child=self._renew_lock)
        for name, kind in _CALLS.items():
            setattr(os, name, self._around(getattr(os, name), kind))
        for name, kind in _IN_SPOOL.items():
            setattr(os, name, self._around(getattr(os, name), kind, where=_SPOOL))
        setattr(os, "open", self._around(os.open, Kind.CREATE, where=_SPOOL, counts=_creates))  # noqa: B010
        setattr(Wire, "send", self._around(Wire.send, Kind.SEND))  # noqa: B010  mypy forbids the plain form
        trap = self

        class Watched(cursor):
            """A cursor that reports each commit to the trap."""

            def execute(self, query: Any, parameters: Any = None) -> None:
                trap.execute(self, super().execute, query, parameters)

        plain = Connection.cursor

        def watched(connection: Connection, *words: Any, **more: Any) -> Any:
            return plain(connection, *words, **{"cursor_factory": Watched, **more})

        setattr(Connection, "cursor", watched)  # noqa: B010  the same

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def _around(
        self,
        call: Callable[..., Any],
        kind: Kind,
        *,
        where: str = "",
        counts: Callable[..., bool] = lambda *_: True,
    ) -> Callable[..., Any]:
        """Return `call` as a point, if the step of the flow is in `where` and `counts` its arguments."""

        def passing(*words: Any, **more: Any) -> Any:
            site = _site()
            if not site.startswith(where) or not counts(*words):
                return call(*words, **more)
            number = self._pass(kind, site)
            try:
                return call(*words, **more)
            finally:
                self._die_if(kind, number, When.AFTER)

        return passing

    def execute(self, on: cursor, run: Callable[..., Any], query: Any, parameters: Any) -> None:
        """Run a statement; if it is a transaction of its own, or a COMMIT, its commit is a point."""
        text = (query if isinstance(query, str) else str(query)).lstrip().upper()
        ends = text == "COMMIT"
        site = _site()
        alone = on.connection.info.transaction_status == TRANSACTION_STATUS_IDLE
        is_none = text.startswith(_NO_TRANSACTION) and not text.startswith("SET LOCAL ")
        if not ends and (not alone or is_none):
            step = site.startswith(_REGISTERS) and (not alone or text.startswith("BEGIN"))
            number = self._pass(Kind.STATEMENT, site) if step else 0
            run(query, parameters)
            self._die_if(Kind.STATEMENT, number, When.AFTER)
            return
        plain = cursor(on.connection)
        if not ends:
            plain.execute("BEGIN")
            try:
                run(query, parameters)
            except BaseException:
                with suppress(psycopg2.Error):  # the connection is lost, and with it the transaction
                    plain.execute("ROLLBACK")
                raise
        wrote = False
        if on.connection.info.transaction_status != TRANSACTION_STATUS_IDLE:
            plain.execute("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")
            [(wrote,)] = plain.fetchall()
        kind = _KIND_OF_CONNECTION.get(on.connection.info.dsn_parameters["application_name"], Kind.COMMIT)
        number = self._pass(kind, site) if wrote else 0
        (run if ends else plain.execute)("COMMIT")
        if wrote:
            self._die_if(kind, number, When.AFTER)

    def _pass(self, kind: Kind, site: str) -> int:
        place = 8 * list(Kind).index(kind)
        with self._lock:
            number = int.from_bytes(self._counts[place : place + 8], "little") + 1
            self._counts[place : place + 8] = number.to_bytes(8, "little")
            _write(self._trace, f"{kind} {number} {site}\n".encode())
        self._die_if(kind, number, When.BEFORE)
        return number

    def _die_if(self, kind: Kind, number: int, when: When) -> None:
        if self._at == Point(kind, number, when):
            os.killpg(0, signal.SIGKILL)


def _creates(_path: object, flags: int, *_: object) -> bool:
    return bool(flags & os.O_CREAT)


def _site() -> str:
    """Return the innermost function of the product that names the step of the flow."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename.removeprefix(f"{ROOT}/")
        function = frame.f_code.co_qualname
        if (
            path.startswith(("gateway/", "actors/"))
            and not path.startswith(_PASSED_OVER)
            and function
            not in {"flush_directory", "make_folder", "Sweeping.transaction"}  # their caller names the step
        ):
            return f"{path.removesuffix('.py').replace('/', '.')}.{function}"
        frame = frame.f_back
    return "elsewhere"


def read_trace(trace: Path) -> dict[tuple[Kind, int], str]:
    """Return each point that was passed with its site; empty if there was none."""
    if not trace.exists():
        return {}
    lines = (line.split(" ", 2) for line in trace.read_text(encoding="utf-8").splitlines())
    return {(Kind(kind), int(number)): site for kind, number, site in lines}
