"""What a process costs: CPU time, memory, open files. Linux tells it in /proc."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

CPU_SECONDS = "cpu_seconds"
MEMORY_BYTES = "memory_bytes"
OPEN_FILES = "open_files"
ASSOCIATIONS = "associations"

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# proc(5): the fields of stat after the name of the program, which may contain spaces
_USER_TIME, _SYSTEM_TIME, _RESIDENT_PAGES = 11, 12, 21


def figures_of(pid: int) -> Mapping[str, float]:
    """Return the figures of a process of this user; those that cannot be read are left out."""
    folder = Path("/proc", str(pid))
    found: dict[str, float] = {}
    with suppress(OSError, ValueError, IndexError):
        fields = (folder / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
        found[CPU_SECONDS] = (int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])) / _TICKS_PER_SECOND
        found[MEMORY_BYTES] = int(fields[_RESIDENT_PAGES]) * _PAGE_BYTES
    with suppress(OSError):
        found[OPEN_FILES] = len(os.listdir(folder / "fd"))  # noqa: PTH208  no paths are needed
    return found
