"""Count the files and bytes of each folder of the spool, in the background.

A spool may hold a million files, which takes seconds to look at. So a thread does it beside the scrapes, and
these show its last result. The file system changes the time of a study's folder whenever a file is added or
removed, and no file of the spool changes its size: a folder with the time of the last look is not read again.
"""

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.domain.instance import Place
from gateway.spool.partial import PARTIAL
from gateway.spool.places import DAMAGED, ORPHANED

PLACES = (*(place.value for place in Place), ORPHANED, DAMAGED, PARTIAL)
PAUSE_SECONDS = 30.0
"""Between two looks."""
SHARE = 20
"""A look that took long is followed by a pause that is longer by this factor: at most 5 % of a core."""
MAX_REMEMBERED = 200_000
"""So many folders of studies are remembered, in some 50 MB; others are read at every look."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a folder holds."""

    files: int
    bytes: int


class SpoolUsage:
    """The files and bytes in `root`, by place. Empty until the first look has ended."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, tuple[int, Usage]] = {}
        self._usage: dict[str, Usage] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool-usage", daemon=True)

    @property
    def usage(self) -> dict[str, Usage]:
        """The result of the last look."""
        return self._usage

    def start(self) -> None:
        """Look now, and again and again."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, unless it reads a large folder just now."""
        self._stopped.set()
        self._thread.join(timeout=1.0)

    def look(self) -> None:
        """Count everything once."""
        seen: dict[str, tuple[int, Usage]] = {}
        found = {}
        for place in PLACES:
            files = size = 0
            with suppress(OSError), os.scandir(self._root / place) as studies:
                for study in studies:
                    usage = self._of_study(study, seen)
                    files += usage.files
                    size += usage.bytes
                    if self._stopped.is_set():
                        return
            found[place] = Usage(files, size)
        self._known = seen
        self._usage = found

    def _of_study(self, study: os.DirEntry[str], seen: dict[str, tuple[int, Usage]]) -> Usage:
        """Return what the folder of a study holds; a file beside these folders counts as itself."""
        try:
            status = study.stat(follow_symlinks=False)
            if not study.is_dir(follow_symlinks=False):
                return Usage(1, status.st_size)
            known = self._known.get(study.path)
            # A change within the tick of the file system's clock would not be seen: trust older times only.
            is_old = time.time_ns() - status.st_mtime_ns > 10**9
            if known is not None and known[0] == status.st_mtime_ns:
                usage = known[1]
            else:
                usage = _of_folder(study.path)
            # the files of partial/ grow, which does not change the time of their folder
            if is_old and len(seen) < MAX_REMEMBERED and Path(study.path).parent.name != PARTIAL:
                seen[study.path] = (status.st_mtime_ns, usage)
        except OSError:
            return Usage(0, 0)  # it was removed meanwhile
        return usage

    def _run(self) -> None:
        while not self._stopped.is_set():
            began = time.monotonic()
            self.look()
            self._stopped.wait(max(PAUSE_SECONDS, SHARE * (time.monotonic() - began)))


def _of_folder(path: str) -> Usage:
    files = size = 0
    with os.scandir(path) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                size += entry.stat(follow_symlinks=False).st_size
                files += 1
    return Usage(files, size)
