"""Search the files of the spool by accession number or patient ID, when an operator asks for it.

One file of each series is read, the series that was received last first, for a limited time. The word is only
compared here. It never gets into a statement, a log line or an error.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from gateway.database.session import Session
from gateway.database.tables import evidence
from gateway.domain.search_hash import normalized
from gateway.errors import DataSetError, SpoolError
from gateway.spool.part10_file import Part10File
from gateway.spool.spool import Spool


@dataclass(slots=True)
class Searched:
    """The studies that were found, how many series were read, and whether all were."""

    study_instance_uids: list[str] = field(default_factory=list)
    series: int = 0
    unreadable: int = 0
    is_complete: bool = True


def search_files(
    session: Session,
    spool: Spool,
    word: str,
    *,
    seconds: float,
    progress: Callable[[int], None] = lambda _: None,
) -> Searched:
    """Return the studies whose accession number or patient ID is `word`; stop after `seconds`.

    `progress` is called with the count of series that were read.
    """
    wanted, found = normalized(word), Searched()
    limit = time.monotonic() + seconds
    for file in evidence.series_files(session):
        if time.monotonic() > limit:
            found.is_complete = False
            break
        found.series += 1
        progress(found.series)
        is_read = False
        with (
            suppress(SpoolError, DataSetError),
            Part10File(spool.path(file.place, file.study_instance_uid, file.file_name)) as opened,
        ):
            values = opened.search_values(file.transfer_syntax_uid)
            is_read = True
            if wanted in map(normalized, values) and file.study_instance_uid not in found.study_instance_uids:
                found.study_instance_uids.append(file.study_instance_uid)
        found.unreadable += not is_read
    return found
