"""The receptions that are acknowledged and not registered yet: links in partial/ to finished files."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from gateway.domain.instance import Kind, Place, file_names
from gateway.errors import FileMissingError
from gateway.spool.envelope import Envelope, read_envelope
from gateway.spool.partial import PARTIAL, SUFFIX
from gateway.spool.spool import Spool

REFUSED = "refused"
"""The folder in partial/ with the links of receptions that PostgreSQL refused."""
REASON = "reason.txt"
"""The file in that folder with PostgreSQL's last reason. Only gateway/diagnosis reads it."""


@dataclass(slots=True, eq=False)
class Unregistered:
    """One reception that waits for its rows.

    `file` is the final name of its file, with all folders, and `part` its `.part` link; None if a power cut
    took the link. Both are texts, see gateway/spool/places.py.
    `refusals` counts how often PostgreSQL refused it alone, or the disk refused its file.
    """

    envelope: Envelope
    file: str
    part: str | None
    refusals: int = 0
    arrived: float = field(default_factory=monotonic)
    is_done: bool = False

    @property
    def path(self) -> Path:
        """The final name of its file."""
        return Path(self.file)

    @property
    def link(self) -> Path | None:
        """Its `.part` link; None if a power cut took it."""
        return None if self.part is None else Path(self.part)

    @property
    def file_name(self) -> str:
        """The final name of its file, without folders."""
        return self.file.rpartition("/")[2]

    @property
    def is_original(self) -> bool:
        """Whether it is registered before the results."""
        return self.envelope.kind is Kind.ORIGINAL

    @property
    def has_plain_name(self) -> bool:
        """Whether no other version of its UID was in incoming/ when it was received."""
        return self.file_name == f"{self.envelope.sop_instance_uid}.dcm"

    def has_its_file(self) -> bool:
        """Tell whether `path` is still the file of this reception.

        Another process may have registered this one, and moved its file. Then another version may have its
        name.

        Raises:
            SpoolError: the file cannot be read.
        """
        with suppress(FileMissingError):
            envelope = read_envelope(self.path)
            return envelope is not None and envelope.reception_id == self.envelope.reception_id
        return False

    @property
    def sha256(self) -> str:
        """The digest of the data set, in hex."""
        return self.envelope.sha256.hex()


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many receptions are unregistered, at most up to a limit, and since when the oldest one is."""

    count: int
    oldest: datetime | None


def backlog(spool: Spool, limit: int) -> Backlog:
    """Count the unregistered receptions of all receivers, living and dead."""
    count = 0
    oldest: float | None = None
    for entry in finished_links(spool.root / PARTIAL):
        with suppress(FileNotFoundError):  # registered meanwhile
            changed = entry.stat().st_mtime
            oldest = changed if oldest is None else min(oldest, changed)
            count += 1
        if count >= limit:
            break
    return Backlog(count, None if oldest is None else datetime.fromtimestamp(oldest, UTC))


def refused_count(spool: Spool) -> int:
    """Count the receptions that PostgreSQL refused to register."""
    return sum(1 for _ in (spool.root / PARTIAL / REFUSED).glob(f"*{SUFFIX}"))


def refused_reason(spool: Spool) -> str:
    """Return why PostgreSQL refused the last reception that it refused; empty if the reason is not known."""
    try:
        return (spool.root / PARTIAL / REFUSED / REASON).read_text(encoding="utf-8")[:500]
    except (OSError, UnicodeError):
        return ""


def finished_links(partial: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the `.part` links of all receivers whose file has a final name."""
    with suppress(FileNotFoundError), os.scandir(partial) as folders:
        for folder in folders:
            if folder.name == REFUSED:
                continue
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        if entry.name.endswith(SUFFIX) and entry.stat().st_nlink > 1:
                            yield entry


def final_name(spool: Spool, link: Path, envelope: Envelope) -> Path | None:
    """Return the final name of the file with that `.part` link; None if it has none.

    The file may be in another place than incoming/: it is registered then, and was moved.
    """
    plain, with_digest = file_names(envelope.sop_instance_uid, envelope.sha256.hex())
    for place in Place:
        folder = spool.root / place / envelope.study_instance_uid
        names = (
            plain,
            with_digest,
            *(path.name for path in folder.glob(f"{with_digest[: -len('.dcm')]}.*.dcm")),
        )
        for name in names:
            path = folder / name
            with suppress(FileNotFoundError):
                if path.samefile(link):
                    return path
    return None
