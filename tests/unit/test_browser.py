"""The analysis of screenshots: what is a picture, and what is the mark of a result."""

import numpy as np
import pytest
from support.browser import coloured, is_picture


@pytest.mark.parametrize("shade", [0, 128])
def test_a_blank_viewport_is_no_picture(shade: int) -> None:
    """One colour with a word in the middle is not a picture."""
    blank = np.full((800, 1000, 3), shade, np.uint8)
    blank[390:410, 450:550] = np.random.default_rng(1).integers(0, 256, (20, 100, 3))
    assert not is_picture(blank)
    assert coloured(np.full_like(blank, shade)) == 0


def test_a_grey_scan_is_a_picture_without_colour_and_a_coloured_frame_is_seen() -> None:
    """Grey noise is a picture; a coloured frame around it is counted."""
    scan = np.random.default_rng(1).integers(0, 256, (800, 1000, 1), np.uint8).repeat(3, axis=2)
    assert is_picture(scan)
    assert coloured(scan) == 0
    scan[100:110, 200:800] = (250, 184, 95)
    assert coloured(scan) == 6000
