"""`python -m gateway.lab.archive`: a small Storage SCP that stores instances, or misbehaves on request.

It is the PACS of a lab where no Orthanc is installed. In tests it also refuses, hangs or aborts. It answers
Success after the Part 10 file is flushed and renamed to its SOP Instance UID. A later instance with the same
UID replaces the file. If the process dies before the rename, a `.part` file remains, which is never read.
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
    """What the archive does with each data set; by default it stores it and answers Success."""

    status: int = _SUCCESS
    delay_seconds: float = 0.0
    abort_mid_data_set: bool = False
    reject: bool = False


class ArchivedDataSet:
    """One data set that is written into a file."""

    def __init__(
        self, folder: Path, behaviour: Behaviour, requestor: Requestor, request: StoreRequest
    ) -> None:
        self._behaviour = behaviour
        self._path = folder / f"{request.sop_instance_uid}.dcm"
        self._part = folder / f"{request.sop_instance_uid}.{threading.get_ident()}.part"
        self._file: BinaryIO | None = None
        if is_uid(request.sop_instance_uid):  # any other text could name a path outside of the folder
            self._file = self._part.open("wb")
            self._file.write(
                preamble_and_file_meta(
                    request.sop_class_uid,
                    request.sop_instance_uid,
                    request.transfer_syntax_uid,
                    source_ae_title=requestor.calling_ae_title,
                )
            )

    def write(self, *fragments: memoryview) -> None:
        """Append the fragments, or abort where the behaviour demands it."""
        if self._behaviour.abort_mid_data_set:
            raise AbortAssociation
        if self._file is not None:
            self._file.writelines(fragments)

    def finish(self) -> tuple[int, str]:
        """Flush the file, rename it, and return the status and comment to answer."""
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
        """Do nothing: the file is complete."""

    def abandon(self, reason: str) -> None:  # noqa: ARG002  the protocol has it
        """Delete the partial file."""
        if self._file is not None:
            self._file.close()
            self._part.unlink(missing_ok=True)


class ArchivePolicy:
    """Accept every caller that uses our AE title, and every Storage SOP Class."""

    def __init__(self, folder: Path, ae_title: str, behaviour: Behaviour) -> None:
        self._folder = folder
        self._ae_title = ae_title
        self._behaviour = behaviour
        self.accepted_sop_classes = storage_sop_classes()

    def admit(self, requestor: Requestor) -> Rejection | None:
        """Accept a caller that uses our AE title."""
        if self._behaviour.reject:
            return LOCAL_LIMIT_EXCEEDED
        return None if requestor.called_ae_title == self._ae_title else CALLED_AE_TITLE_NOT_RECOGNIZED

    def store(self, requestor: Requestor, request: StoreRequest) -> ArchivedDataSet:
        """Begin the file of an instance."""
        return ArchivedDataSet(self._folder, self._behaviour, requestor, request)

    def ended(self, requestor: Requestor, outcome: str, error: str | None) -> None:
        """Print the end of an association, into the output file of the lab."""
        print(f"{requestor.calling_ae_title} {outcome} {error or ''}", flush=True)  # noqa: T201

    def ended_unadmitted(self, remote_address: str, outcome: str, error: str) -> None:
        """Print the end of a connection without an association."""
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
        # A daemon thread: an association that waits must not delay the end of the process.
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
