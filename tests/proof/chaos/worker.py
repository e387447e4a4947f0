"""`python -m proof.chaos.worker`: the lab's worker, with a journal of received and sent digests.

It is the product's program, unchanged: this module only records what enters its queue and what it passes to
pynetdicom. It records an instance before the answer leaves, as the PACS does, and a result after the edge's
answer came, as senders do. The ledger allows for what a kill in between leaves.
"""

import os
import queue
import sys
import threading
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pynetdicom.association
from pydicom import Dataset
from pynetdicom.association import Association

from gateway.lab.program import Program
from proof.chaos.journal import Journal
from proof.chaos.part10 import data_set_digest
from worker_app import __main__ as application
from worker_app import scp
from worker_app.settings import Settings
from worker_app.waiting import Work

VARIABLE = "CHAOS_JOURNAL"
TOOK, GAVE = "took", "gave"
"""The word of a line: an instance that it accepted, or a result that the edge answered for."""
_TESTS = Path(__file__).resolve().parents[2]


def watched(program: Program, journal: Path) -> Program:
    """Return that worker application, with a journal."""
    return replace(
        program,
        command=(sys.executable, "-m", "proof.chaos.worker"),
        environment={**program.environment, "PYTHONPATH": str(_TESTS), VARIABLE: str(journal)},
    )


class _Noting(queue.Queue[Work]):
    """In front of the application's queue: records what is put into it, unless the queue is full."""

    def __init__(self, waiting: queue.Queue[Work], journal: Journal) -> None:
        super().__init__()
        self._waiting = waiting
        self._journal = journal

    def put_nowait(self, item: Work) -> None:
        """Pass it to the application, and write it to the journal."""
        (instance,) = item.instances
        assert instance.file is not None
        digest = data_set_digest(instance.file.fileno())
        self._waiting.put_nowait(item)
        self._journal.note(instance.sop_instance_uid, digest, "0000", TOOK)


def _note_received(journal: Journal) -> None:
    plain = scp.start

    def start(settings: Settings, inbox: scp.Inbox) -> Any:
        return plain(settings, replace(inbox, waiting=_Noting(inbox.waiting, journal)))

    setattr(scp, "start", start)  # noqa: B010  mypy forbids the plain form


def _note_returned(journal: Journal) -> None:
    encode, store = getattr(pynetdicom.association, "encode"), Association.send_c_store  # noqa: B009  the same
    here = threading.local()

    def noting_encode(*words: Any, **more: Any) -> bytes | None:
        encoded: bytes | None = encode(*words, **more)
        here.digest = sha256(encoded or b"").hexdigest()
        return encoded

    def noting_store(association: Association, dataset: Dataset, *words: Any, **more: Any) -> Dataset:
        answer = store(association, dataset, *words, **more)
        if "Status" in answer:
            journal.note(str(dataset.SOPInstanceUID), here.digest, f"{answer.Status:04X}", GAVE)
        return answer

    setattr(pynetdicom.association, "encode", noting_encode)  # noqa: B010  the same
    setattr(Association, "send_c_store", noting_store)  # noqa: B010  the same


def main() -> int:
    """Run the application until SIGTERM or SIGINT."""
    journal = Journal(Path(os.environ[VARIABLE]))
    _note_received(journal)
    _note_returned(journal)
    return application.main()


if __name__ == "__main__":
    sys.exit(main())
