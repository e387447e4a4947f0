"""Shared by the benchmarks: a folder on the disk, the data, and the table that is printed at the end."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support import wire_data
from support.wire_table import Rows


@pytest.fixture(scope="session", autouse=True)
def fresh_ground() -> Iterator[None]:
    """Put all temporary files of this run into one folder, and delete it only at the end.

    An ext4 without a journal visits, at every creation, each inode that was freed nearby in the last
    minutes, for example by a test suite. This cost receivers a third of their CPU, and peers less or more.
    Folders below the "top of a hierarchy" (`chattr +T`) are spread over the disk; on other file systems it
    has no effect.
    """
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-bench-"))
    folder.chmod(0o711)  # as root: PostgreSQL's user must be able to enter the folder
    with suppress(FileNotFoundError):  # chattr is missing
        subprocess.run(["chattr", "+T", folder], check=False, capture_output=True)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def rows() -> Iterator[Rows]:
    """Yield the table of this run."""
    found = Rows()
    yield found
    found.save()


@pytest.fixture(scope="session")
def loads() -> dict[str, wire_data.Load]:
    """Return CT instances of 0.5 MB and small instances of 4 KiB, as files."""
    folder = Path(tempfile.mkdtemp(prefix="loads-"))
    return {
        "CT": wire_data.write(folder, "ct", wire_data.scaled(600), wire_data.CT_BYTES),
        "small": wire_data.write(folder, "small", wire_data.scaled(2000), wire_data.SMALL_BYTES),
    }
