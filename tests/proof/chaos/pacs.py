"""`python -m proof.chaos.pacs`: a PACS that refuses, hangs, warns or aborts on request.

It keeps no pixels. For each complete data set it writes the digest of the bytes on the wire to its journal
before the answer leaves, so a kill -9 does not lose it. After a kill in between, the edge sends this
instance again. The PACS never answers Success for an instance that is not in the journal.

Its behaviour is in a file that the fault runner replaces, so it also survives a restart.
"""

import argparse
import json
import os
import random
import signal
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from types import FrameType

from gateway.dicom.acceptor import Acceptor
from gateway.dicom.contexts import storage_sop_classes
from gateway.dicom.policy import (
    CALLED_AE_TITLE_NOT_RECOGNIZED,
    LOCAL_LIMIT_EXCEEDED,
    AbortAssociation,
    Rejection,
    Requestor,
    StoreRequest,
    Timeouts,
)
from gateway.lab.layout import LOOPBACK, is_listening
from gateway.lab.program import Program
from proof.chaos.journal import HAS_IT, Journal, read

_TIMEOUTS = Timeouts(artim_seconds=10, network_seconds=30, idle_seconds=120)
_MAX_PDU_BYTES = 131_072
DUPLICATE_SOP_INSTANCE = 0x0111  # PS3.7 §C.5.8
_TESTS = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The behaviour for `share` of the data sets; the rest is kept and answered Success."""

    status: int = 0x0000
    share: float = 1.0
    delay_seconds: float = 0.0
    aborts: bool = False
    rejects: bool = False
    remembers: bool = False
    """Answer 0x0111 to a SOP Instance UID that it has, for any version (PS3.7 §C.5.8)."""


WELL = Behaviour()


def behave(folder: Path, behaviour: Behaviour) -> None:
    """Set the behaviour of the PACS in `folder`, from its next data set on, also after a kill."""
    part = folder / "behaviour.part"
    part.write_text(json.dumps(asdict(behaviour)), encoding="ascii")
    part.replace(folder / "behaviour.json")


class ChaosPacs:
    """The PACS as a program of the lab; it listens on `port`, with or without a proxy in front of it."""

    title = "PACS of the chaos run"

    def __init__(self, folder: Path, ae_title: str, port: int, *, name: str = "pacs") -> None:
        self.folder = folder
        self.journal = folder / "taken.txt"
        self._ae_title = ae_title
        self._port = port
        self._name = name

    def program(self) -> Program:
        """Return it as a program in the foreground, with normal behaviour."""
        self.folder.mkdir(parents=True, exist_ok=True)
        behave(self.folder, WELL)
        words = ("--folder", str(self.folder), "--ae-title", self._ae_title, "--port", str(self._port))
        return Program(
            self._name,
            (sys.executable, "-m", "proof.chaos.pacs", *words),
            {"PYTHONPATH": str(_TESTS)},
            ready=lambda: is_listening(self._port),
        )

    def holds(self) -> set[str]:
        """Return the SOP Instance UIDs that it answered for."""
        return {entry.sop_instance_uid for entry in read(self.journal)}


class _Room:
    """The folder of the PACS: its journal and its behaviour."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder / "taken.txt")
        self.holds = {
            entry.sop_instance_uid for entry in read(folder / "taken.txt") if entry.status in HAS_IT
        }
        self._path = folder / "behaviour.json"
        self._seen: tuple[int, int] | None = None
        self._behaviour = WELL

    def behaviour(self) -> Behaviour:
        """Return the behaviour in the file."""
        status = self._path.stat()
        seen = (status.st_mtime_ns, status.st_ino)
        if seen != self._seen:
            self._behaviour = Behaviour(**json.loads(self._path.read_text(encoding="ascii")))
            self._seen = seen
        return self._behaviour


class _Arriving:
    def __init__(self, room: _Room, requestor: Requestor, request: StoreRequest) -> None:
        self._room = room
        self._requestor = requestor
        self._request = request
        behaviour = room.behaviour()
        chosen = random.random() < behaviour.share  # noqa: S311  which ones does not matter
        self._behaviour = behaviour if chosen else WELL
        self._digest = sha256()

    def write(self, *fragments: memoryview) -> None:
        if self._behaviour.aborts:
            raise AbortAssociation
        for fragment in fragments:
            self._digest.update(fragment)

    def finish(self) -> tuple[int, str]:
        if self._behaviour.delay_seconds:
            time.sleep(self._behaviour.delay_seconds)  # a slow PACS, not a wait for something
        status, uid = self._behaviour.status, self._request.sop_instance_uid
        if self._behaviour.remembers and uid in self._room.holds:
            status = DUPLICATE_SOP_INSTANCE
        word = self._requestor.calling_ae_title or "-"
        self._room.journal.note(uid, self._digest.hexdigest(), f"{status:04X}", word)
        if f"{status:04X}" in HAS_IT:
            self._room.holds.add(uid)
        return status, "as the fault_runner asked for" if status else ""

    def answered(self) -> None:
        """Do nothing: no step is left."""

    def abandon(self, reason: str) -> None:
        """Do nothing: no data is kept."""


class _Door:
    def __init__(self, room: _Room, ae_title: str) -> None:
        self._room = room
        self._ae_title = ae_title
        self.accepted_sop_classes = storage_sop_classes()

    def admit(self, requestor: Requestor) -> Rejection | None:
        if self._room.behaviour().rejects:
            return LOCAL_LIMIT_EXCEEDED
        return None if requestor.called_ae_title == self._ae_title else CALLED_AE_TITLE_NOT_RECOGNIZED

    def store(self, requestor: Requestor, request: StoreRequest) -> _Arriving:
        return _Arriving(self._room, requestor, request)

    def ended(self, requestor: Requestor, outcome: str, error: str | None) -> None:
        """Do nothing: the run does not need it."""

    def ended_unadmitted(self, remote_address: str, outcome: str, error: str) -> None:
        """Do nothing: the run does not need it."""


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="chaos.pacs", description="a PACS that misbehaves on request")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--ae-title", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    acceptor = Acceptor(_Door(_Room(arguments.folder), arguments.ae_title), _MAX_PDU_BYTES, _TIMEOUTS)
    listener = socket.create_server((LOOPBACK, arguments.port), backlog=128)

    def stop(_number: int, _frame: FrameType | None) -> None:
        os._exit(0)  # every answer is in the journal already

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while True:
        connection, address = listener.accept()
        # a daemon thread: a waiting association must not delay the end of the process
        threading.Thread(target=acceptor.serve, args=(connection, address), daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
