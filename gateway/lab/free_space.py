"""Say that the disk of a lab has too little free space, before senders are told "temporary congestion"."""

import shutil
from pathlib import Path

MIB = 1 << 20
DEMO_MIB = 256
"""What a demo writes: PostgreSQL's files, its images and their results, the PACS."""


def lack_of_space(folder: Path, reserve_mib: int, more_mib: int = 0) -> str | None:
    """Return why the edge would refuse images in `folder`; None if there is enough space.

    `reserve_mib` is `edge.disk_reserve_mb`, and `more_mib` what will be written. The folder need not exist.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free // MIB
    if free > reserve_mib + more_mib:
        return None
    needed = f", and {more_mib:,} more are needed" if more_mib else ""
    return (
        f"the disk of {there} has {free:,} MiB free. The edge refuses images below {reserve_mib:,} MiB "
        f"(edge.disk_reserve_mb){needed}"
    )
