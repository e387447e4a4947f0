"""The journals of senders and PACS: one line for each answer, appended by one write.

A sender writes its line after the answer arrived, the PACS before its answer leaves. After a kill in
between, the sender's journal lacks an answer, or the PACS's journal has one that the edge never got. The
ledger allows for both.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HAS_IT = frozenset({"0000", "B000"})
"""The answers by which a PACS says that it has the instance (PS3.4 §B.2.3, Table B.2-1)."""
SUCCESS = "0000"
BROKEN = "----"
"""There was no answer: aborted, or lost."""
NOT_OPENED = "none"
"""The association was not opened: it was rejected, or nobody accepted the connection."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer: time (seconds of the epoch), bytes, answer, and a word of the writer."""

    at: float
    sop_instance_uid: str
    digest: str
    status: str
    word: str
    seconds: float = 0.0
    """How long the answer took, where the writer measured it."""


class Journal:
    """A journal for any number of threads; a line survives the death of the writer, but not a power cut."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def note(self, sop_instance_uid: str, digest: str, status: str, word: str, seconds: float = 0.0) -> None:
        """Append the line; it is written before the return."""
        line = f"{time.time():.6f} {sop_instance_uid} {digest} {status} {word} {seconds:.3f}\n"
        os.write(self._descriptor, line.encode())  # one write: a kill leaves the line whole or not at all


def read(path: Path) -> Iterator[Entry]:
    """Yield the lines so far, oldest first; none if there is no file yet."""
    if not path.exists():
        return
    with path.open(encoding="ascii") as lines:
        for line in lines:
            at, sop_instance_uid, digest, status, word, seconds = line.split()
            yield Entry(float(at), sop_instance_uid, digest, status, word, float(seconds))
