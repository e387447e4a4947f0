"""What the benchmarks of the wire share: the data, made once, and the table, printed at the end."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import wire_data
from wire_table import Rows


@pytest.fixture(scope="session")
def rows() -> Iterator[Rows]:
    """The table of this run."""
    found = Rows()
    yield found
    found.save()


@pytest.fixture(scope="session")
def loads() -> Iterator[dict[str, wire_data.Load]]:
    """CT of 0.5 MB and small instances of 4 KiB, as files."""
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-bench-"))
    try:
        yield {
            "CT": wire_data.write(folder, "ct", wire_data.scaled(600), wire_data.CT_BYTES),
            "small": wire_data.write(folder, "small", wire_data.scaled(2000), wire_data.SMALL_BYTES),
        }
    finally:
        shutil.rmtree(folder)
