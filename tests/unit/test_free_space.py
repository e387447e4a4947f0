"""The free space that a lab and a demo need."""

import shutil
from pathlib import Path

from gateway.lab.free_space import MIB, lack_of_space


def test_a_disk_at_the_reserve_is_named_with_what_is_free(tmp_path: Path) -> None:
    """The folder of the spool does not exist before the lab starts."""
    free = shutil.disk_usage(tmp_path).free // MIB
    assert lack_of_space(tmp_path / "not" / "there", 0) is None
    lacks = lack_of_space(tmp_path / "not" / "there", free * 2)
    assert lacks is not None
    assert f"the disk of {tmp_path} has " in lacks
    assert "edge.disk_reserve_mb" in lacks


def test_what_will_be_written_is_needed_beside_the_reserve(tmp_path: Path) -> None:
    """A demo that begins with a little more than the reserve would end in refusals."""
    free = shutil.disk_usage(tmp_path).free // MIB
    lacks = lack_of_space(tmp_path, 0, free * 2)
    assert lacks is not None
    assert f"and {free * 2:,} more are needed" in lacks
