"""`python -m gateway.lab.archive`: a small Storage SCP that keeps what it gets, or misbehaves on request.

It stands in for a PACS where no Orthanc is installed, and plays one that refuses, hangs or aborts in
tests. An instance is answered Success when its Part 10 file is fsynced under its SOP Instance UID; the
same UID again replaces the file. If the process dies inside, a `.part` file remains, which nobody reads.
"""

import argparse
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from gateway.dicom.acceptor import Acceptor
from gateway.dicom.contexts import storage_sop_classes
from gateway.dicom.dataset.part10 import preamble_and_file_meta
from gateway.dicom.policy import (
    CALLED_AE_TITLE_NOT_RECOGNIZED,
    LOCAL_LIMIT_EXCEEDED,
    AbortAssociation,
    Rejection,
    Requestor,
    StoreRequest,
    Timeouts,
)
from gateway.domain.identifiers import is_uid
from gateway.lab.layout import LOOPBACK

_TIMEOUTS = Timeouts(artim_seconds=30, network_seconds=60, idle_seconds=600)
_MAX_PDU_BYTES = 131_072
_SUCCESS = 0x0000
_CANNOT_UNDERSTAND = 0xC000


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What it does with each data set; the default is to keep it and answer Success."""

    status: int = _SUCCESS
    delay_seconds: float = 0.0
    abort_mid_data_set: bool = False
    reject: bool = False


class ArchivedDataSet:
    """One data set on its way into a file."""

    def __init__(
        self, folder: Path, behaviour: Behaviour, requestor: Requestor, request: StoreRequest
    ) -> None:
        self._behaviour = behaviour
        self._path = folder / f"{request.sop_instance_uid}.dcm"
        self._part = folder / f"{request.sop_instance_uid}.{threading.get_ident()}.part"
        self._file: BinaryIO | None = None
        if is_uid(request.sop_instance_uid):  # else it could name a path elsewhere
            self._file = self._part.open("wb")
            self._file.write(
                preamble_and_file_meta(
                    request.sop_class_uid,
                    request.sop_instance_uid,
                    request.transfer_syntax_uid,
                    source_ae_title=requestor.calling_ae_title,
                )
            )

    def write(self, fragment: memoryview) -> None:
        """Append, or abort where that was asked for."""
        if self._behaviour.abort_mid_data_set:
            raise AbortAssociation
        if self._file is not None:
            self._file.write(fragment)

    def finish(self) -> tuple[int, str]:
        """The answer; a file of that name exists when it is Success."""
        if self._behaviour.delay_seconds:
            time.sleep(self._behaviour.delay_seconds)
        if self._file is None:
            return _CANNOT_UNDERSTAND, "invalid SOP Instance UID"
        if self._behaviour.status != _SUCCESS:
            self.abandon("refused")
            return self._behaviour.status, "as the test asked for"
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.replace(self._path)
        return _SUCCESS, ""

    def answered(self) -> None:
        """Nothing is left to do."""

    def abandon(self, reason: str) -> None:  # noqa: ARG002  of the protocol; nobody reads it here
        """Nothing is kept."""
        if self._file is not None:
            self._file.close()
            self._part.unlink(missing_ok=True)


class ArchivePolicy:
    """The policy: everybody who calls us by our name may store everything."""

    def __init__(self, folder: Path, ae_title: str, behaviour: Behaviour) -> None:
        self._folder = folder
        self._ae_title = ae_title
        self._behaviour = behaviour
        self.accepted_sop_classes = storage_sop_classes()

    def admit(self, requestor: Requestor) -> Rejection | None:
        """Let in whoever calls the right AE title."""
        if self._behaviour.reject:
            return LOCAL_LIMIT_EXCEEDED
        return None if requestor.called_ae_title == self._ae_title else CALLED_AE_TITLE_NOT_RECOGNIZED

    def store(self, requestor: Requestor, request: StoreRequest) -> ArchivedDataSet:
        """Begin a file."""
        return ArchivedDataSet(self._folder, self._behaviour, requestor, request)

    def ended(self, requestor: Requestor, outcome: str, error: str | None) -> None:
        """Print it, for whoever looks into the lab's logs."""
        print(f"{requestor.calling_ae_title} {outcome} {error or ''}", flush=True)  # noqa: T201

    def ended_unadmitted(self, remote_address: str, outcome: str, error: str) -> None:
        """Print it, too."""
        print(f"{remote_address} {outcome} {error}", flush=True)  # noqa: T201


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    arguments = _parser().parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    behaviour = Behaviour(
        arguments.status, arguments.delay_seconds, arguments.abort_mid_data_set, arguments.reject
    )
    acceptor = Acceptor(
        ArchivePolicy(arguments.folder, arguments.ae_title, behaviour), _MAX_PDU_BYTES, _TIMEOUTS
    )
    listener = socket.create_server((LOOPBACK, arguments.port), backlog=128)

    def stop(_number: int, _frame: FrameType | None) -> None:
        acceptor.stop()
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while True:
        connection, address = listener.accept()
        # a daemon: an association that waits must not hold up the end of the process
        threading.Thread(target=acceptor.serve, args=(connection, address), daemon=True).start()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gateway.lab.archive", description="a small Storage SCP archive")
    parser.add_argument("--folder", type=Path, required=True, help="where the Part 10 files are kept")
    parser.add_argument("--ae-title", default="ORTHANC")
    parser.add_argument("--port", type=int, default=4242, help="on 127.0.0.1")
    parser.add_argument(
        "--status", type=lambda text: int(text, 16), default=_SUCCESS, help="hex; answered to each"
    )
    parser.add_argument("--delay-seconds", type=float, default=0.0, help="before each answer")
    parser.add_argument("--abort-mid-data-set", action="store_true", help="A-ABORT at the first fragment")
    parser.add_argument("--reject", action="store_true", help="reject every association, transiently")
    return parser


if __name__ == "__main__":
    sys.exit(main())
