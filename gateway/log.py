"""Write JSON log lines of all processes to one file, with a fixed set of stages and fields (G8).

`write` has no free-form fields: a value without a parameter cannot be logged, so no attribute of a patient
can get into the log. Each line is appended by one `write(2)` to a descriptor opened with O_APPEND, so lines
of different processes never mix. Only the sweep renames the file (`rotate`); the other processes notice it
and reopen the file by its name.

Logging never raises. A line that cannot be written goes to standard error; if that fails too, it is lost.
"""

import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Literal

import orjson

from gateway.domain.identifiers import printable

REOPEN_CHECK_SECONDS = 1.0
MAX_TEXT = 2000

Level = Literal["info", "warning", "error"]


class Stage(StrEnum):
    """The step in the life of an instance that a line is about."""

    RECEIVE = "receive"
    STORE = "store"
    QUEUE = "queue"
    FORWARD_PACS = "forward_pacs"
    FORWARD_ARCHIVE = "forward_archive"
    FORWARD_WORKER = "forward_worker"
    AI_RESULT = "ai_result"
    DB = "db"
    SWEEP = "sweep"
    FAULT = "fault"
    CONSOLE = "console"


class _Sink:
    """The append-only file; None as path means standard error."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._descriptor: int | None = None
        self._checked = 0.0

    def configure(self, path: Path | None) -> None:
        with self._lock:
            self._close()
            self._path = path

    def append(self, line: bytes) -> None:
        with self._lock:
            try:
                descriptor = self._open()
                os.write(descriptor, line)
            except OSError as error:
                self._close()
                # The log's disk may be full. The edge must continue, and a supervisor reads standard error.
                write_stderr(f"log not writable ({error.strerror}): {line.decode(errors='replace')}")

    def _open(self) -> int:
        if self._path is None:
            return 2
        now = time.monotonic()
        if self._descriptor is not None and now - self._checked > REOPEN_CHECK_SECONDS:
            self._checked = now
            try:
                same = os.path.samestat(os.fstat(self._descriptor), self._path.stat())
            except FileNotFoundError:
                same = False
            if not same:
                self._close()
        if self._descriptor is None:
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)  # with any umask
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o640)
            self._checked = now
        return self._descriptor

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):  # closed in any case; `write` reported the error
                os.close(descriptor)


def write_stderr(text: str) -> None:
    """Write to standard error if it is open; never raise."""
    if sys.stderr is None:
        return  # closed at the start of the process; descriptor 2 may be another file now
    # Standard error may be on the same full disk, or a pipe without a reader. Ignore it: a lost line is
    # better than an error between a commit and its answer.
    with suppress(OSError, ValueError):
        sys.stderr.write(text)


_sink = _Sink()
_held = threading.local()


@contextmanager
def together() -> Iterator[None]:
    """Append the lines of this thread by one write(2) when the block ends.

    If the process dies in the block, its lines are lost.
    """
    lines: list[bytes] = []
    _held.lines = lines
    try:
        yield
    finally:
        _held.lines = None
        if lines:
            _sink.append(b"".join(lines))


_process = {"name": "mini-pacs"}
_second = (0, "")
"""The second of the last line, and its text. Many lines are written in one second."""


def _now() -> str:
    """Return the time in UTC (ISO 8601, with milliseconds)."""
    global _second  # noqa: PLW0603  two threads may both make the text of a new second, which does no harm
    second, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    known, text = _second
    if second != known:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _second = second, text
    return f"{text}.{milliseconds:03}+00:00"


def configure(path: Path | None, process: str) -> None:
    """Send the lines of this process to `path` (None: standard error), with `process` as its name."""
    _process["name"] = process
    _sink.configure(path)


def write(  # noqa: C901, PLR0912  a branch for each field
    stage: Stage,
    outcome: str,
    *,
    level: Level = "info",
    error: str | None = None,
    study_instance_uid: str | None = None,
    sop_instance_uid: str | None = None,
    calling_ae_title: str | None = None,
    called_ae_title: str | None = None,
    remote_address: str | None = None,
    duration_ms: float | None = None,
    instance_id: int | None = None,
    delivery_id: int | None = None,
    destination: str | None = None,
    status: int | None = None,
    attempt: int | None = None,
    next_in_seconds: float | None = None,
    count: int | None = None,
    size: int | None = None,
    fault: str | None = None,
    detail: str | None = None,
) -> None:
    """Append one line. None fields are left out; texts are cut to a length and to printable ASCII.

    `status` is a DIMSE status, written in hexadecimal. `detail` is a text of this program; it must never
    quote a data set.
    """
    fields: dict[str, object] = {
        "time": _now(),
        "level": level,
        "stage": stage.value,
        "outcome": outcome,
        "process": _process["name"],
        "pid": os.getpid(),
    }
    # Most fields are None in most lines. A dict of all of them, filtered afterwards, costs more.
    if study_instance_uid is not None:
        fields["study_instance_uid"] = study_instance_uid
    if sop_instance_uid is not None:
        fields["sop_instance_uid"] = sop_instance_uid
    if calling_ae_title is not None:
        fields["calling_ae_title"] = printable(calling_ae_title)
    if called_ae_title is not None:
        fields["called_ae_title"] = printable(called_ae_title)
    if remote_address is not None:
        fields["remote_address"] = remote_address
    if destination is not None:
        fields["destination"] = destination
    if status is not None:
        fields["status"] = f"0x{status:04X}"
    if error is not None:
        fields["error"] = printable(error, MAX_TEXT)
    if detail is not None:
        fields["detail"] = printable(detail, MAX_TEXT)
    if fault is not None:
        fields["fault"] = fault
    if attempt is not None:
        fields["attempt"] = attempt
    if next_in_seconds is not None:
        fields["next_in_seconds"] = round(next_in_seconds, 3)
    if duration_ms is not None:
        fields["duration_ms"] = round(duration_ms, 2)
    if count is not None:
        fields["count"] = count
    if size is not None:
        fields["size"] = size
    if instance_id is not None:
        fields["instance_id"] = instance_id
    if delivery_id is not None:
        fields["delivery_id"] = delivery_id
    line = orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
    lines: list[bytes] | None = getattr(_held, "lines", None)
    if lines is None:
        _sink.append(line)
    else:
        lines.append(line)


def frames(error: BaseException) -> str:
    """Return the stack frames of an unforeseen error, innermost first, for `detail`.

    The message is left out, because an exception of a library may quote a value of a data set (G8).
    """
    stack = reversed(traceback.extract_tb(error.__traceback__))
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in stack)


def rotate(path: Path, *, max_bytes: int, backups: int) -> bool:
    """Rename a log of at least `max_bytes` to `.1`, `.1` to `.2` and so on; tell whether it was renamed.

    Only the sweep may call this: two processes at the same time would lose a backup. Writers reopen the file
    within REOPEN_CHECK_SECONDS; until then they append to `.1`. With no `backups` the log is deleted.
    """
    try:
        if path.stat().st_size < max_bytes:
            return False
    except FileNotFoundError:
        return False
    if backups == 0:
        path.unlink(missing_ok=True)
        return True
    for number in range(backups - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number + 1}"))
    path.replace(path.with_name(f"{path.name}.1"))
    return True
