"""Draw simple anatomies, different in every slice, for generated images.

`z` runs from 0 to 1 through the volume; `seed` determines the noise. Values are in the unit of the modality
(Hounsfield units for CT, signal for the others), float32, rows by columns.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]


def _grid(size: int) -> tuple[Field, Field]:
    """Return the coordinates x (to the right) and y (downwards), both from -1 to 1."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    return axis[None, :], axis[:, None]


def _ellipse(  # noqa: PLR0917  an ellipse has five parameters
    size: int, x: float, y: float, width: float, height: float, turn: float = 0.0
) -> NDArray[np.bool_]:
    across, down = _grid(size)
    across, down = across - np.float32(x), down - np.float32(y)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    inside: NDArray[np.bool_] = ((across * cos + down * sin) / max(width, 1e-3)) ** 2 + (
        (down * cos - across * sin) / max(height, 1e-3)
    ) ** 2 < 1
    return inside


def _noise(size: int, seed: int, amount: float) -> Field:
    return np.random.default_rng(seed).normal(0, amount, (size, size)).astype(np.float32)


def _arch(z: float, middle: float = 0.5) -> float:
    """Return a size factor: 0 at both ends of the volume, 1 at `middle`."""
    return float(np.clip(1 - ((z - middle) / 0.55) ** 2, 0, 1) ** 0.5)


def chest(size: int, z: float, seed: int) -> Field:
    """Draw a chest in Hounsfield units: skin, ribs, lungs, heart, aorta, spine, a nodule, the table."""
    field = np.full((size, size), -1000, np.float32)
    field[_ellipse(size, 0, 0.93, 0.75, 0.05)] = -300
    body = 0.05 * _arch(z)
    field[_ellipse(size, 0, 0, 0.86 + body, 0.62 + body)] = -95
    field[_ellipse(size, 0, 0, 0.81 + body, 0.57 + body)] = 45
    lung = 0.30 + 0.14 * _arch(z, 0.55)
    for side in (-1, 1):
        field[_ellipse(size, side * 0.42, -0.03, lung * 0.72, lung, side * 0.12)] = -840
        for branch in range(7):
            angle = branch * 0.9 + 3 * z
            reach = 0.06 + 0.03 * branch
            at = (side * (0.40 + reach * np.cos(angle)), -0.03 + reach * 1.2 * np.sin(angle))
            field[_ellipse(size, at[0], at[1], 0.016, 0.016)] = 20
    for rib in range(10):
        angle = np.pi * (rib + 0.5 + z) / 5
        at = ((0.78 + body) * np.cos(angle), (0.545 + body) * np.sin(angle))
        field[_ellipse(size, at[0], at[1], 0.07, 0.022, angle + np.pi / 2)] = 520
    heart = 0.30 * _arch(z, 0.35)
    field[_ellipse(size, 0.12, -0.12, heart, heart * 0.85, 0.5)] = 55
    field[_ellipse(size, 0.15, -0.14, heart * 0.5, heart * 0.4, 0.5)] = 165
    field[_ellipse(size, 0.14, 0.22, 0.075, 0.075)] = 180
    field[_ellipse(size, 0, 0.33, 0.14, 0.11)] = 380
    field[_ellipse(size, 0, 0.33, 0.11, 0.085)] = 210
    field[_ellipse(size, 0, 0.47, 0.05, 0.05)] = 30
    field[_ellipse(size, 0, 0.54, 0.03, 0.07)] = 450
    nodule = 0.05 * _arch((z - 0.5) * 3 + 0.5)
    field[_ellipse(size, -0.5, 0.1, nodule, nodule * 0.9)] = 60
    return field + _noise(size, seed, 12)


def head(size: int, z: float, seed: int) -> Field:
    """Draw a head as a T2-weighted signal: scalp, skull, cortex and white matter, ventricles, a lesion."""
    field = np.full((size, size), 12, np.float32)
    girth = 0.55 + 0.4 * _arch(z, 0.45)
    field[_ellipse(size, 0, 0, 0.80 * girth, 0.95 * girth)] = 420
    field[_ellipse(size, 0, 0, 0.76 * girth, 0.91 * girth)] = 70
    field[_ellipse(size, 0, 0, 0.71 * girth, 0.86 * girth)] = 900
    field[_ellipse(size, 0, 0, 0.685 * girth, 0.835 * girth)] = 520
    for fold in range(18):
        angle = 2 * np.pi * fold / 18 + 2 * z
        at = (0.62 * girth * np.cos(angle), 0.76 * girth * np.sin(angle))
        field[_ellipse(size, at[0], at[1], 0.075 * girth, 0.014, angle)] = 860
    field[_ellipse(size, 0, 0.01, 0.53 * girth, 0.66 * girth)] = 360
    field[_ellipse(size, 0, 0, 0.012, 0.80 * girth)] = 760
    ventricle = 0.26 * _arch(z, 0.5)
    for side in (-1, 1):
        field[_ellipse(size, side * 0.10, -0.08, 0.065 * girth, ventricle, side * -0.25)] = 1050
        field[_ellipse(size, side * 0.19, 0.03, 0.10 * girth, 0.12 * girth, side * 0.4)] = 470
        if z < 0.3:  # noqa: PLR2004  the lowest slices show the eyes
            field[_ellipse(size, side * 0.27, -0.55 * girth, 0.12, 0.12)] = 1150
    lesion = 0.07 * _arch((z - 0.6) * 3 + 0.5)
    field[_ellipse(size, 0.33, -0.25, lesion, lesion * 0.8)] = 980
    return np.asarray(np.abs(field + _noise(size, seed, 16)), dtype=np.float32)


def uptake(size: int, z: float, seed: int) -> Field:
    """Draw tracer uptake in a body: a faint outline, brain or kidneys by height, and hot spots."""
    field = np.full((size, size), 20, np.float32)
    field[_ellipse(size, 0, 0, 0.75, 0.52)] = 260
    field[_ellipse(size, 0.12, -0.1, 0.3 * _arch(z, 0.4), 0.24 * _arch(z, 0.4))] = 900
    for side in (-1, 1):
        field[_ellipse(size, side * 0.38, 0.12, 0.13 * _arch(z, 0.8), 0.17 * _arch(z, 0.8))] = 1600
    spot = 0.07 * _arch((z - 0.5) * 2 + 0.5)
    field[_ellipse(size, -0.42, -0.15, spot, spot)] = 2600
    kernel = np.ones(5, np.float32) / 5
    for axis in (0, 1):
        field = np.apply_along_axis(np.convolve, axis, field, kernel, "same").astype(np.float32)
    return np.asarray(np.abs(field + _noise(size, seed, 25)), dtype=np.float32)


def projection(size: int, z: float, seed: int) -> Field:
    """Draw a chest radiograph, brighter where more tissue is in the beam; the lungs grow with `z`."""
    field = np.full((size, size), 250, np.float32)
    across, down = _grid(size)
    field += 1500 * np.clip(1.1 - np.abs(across), 0, 1) ** 0.6 * np.ones_like(down)
    for side in (-1, 1):
        lung = _ellipse(size, side * 0.42, -0.02, 0.32 + 0.03 * z, 0.66 + 0.05 * z, side * 0.10)
        field[lung] -= 950
        for rib in range(9):
            height = -0.55 + 0.135 * rib + 0.02 * z
            curve = np.abs(down - height - 0.35 * (np.abs(across) - 0.35) ** 2 * 2) < 0.016  # noqa: PLR2004
            field[curve & (across * side > 0.08) & (np.abs(across) < 0.84)] += 170  # noqa: PLR2004
    field[_ellipse(size, 0.14, 0.28, 0.32, 0.36, 0.5)] += 700
    field[_ellipse(size, 0, 0, 0.07, 1.2)] += 650
    field[_ellipse(size, -0.42, 0.86, 0.5, 0.35)] += 800
    field[_ellipse(size, 0.42, 0.92, 0.5, 0.35)] += 700
    return np.asarray(np.clip(field + _noise(size, seed, 22), 0, 4095), dtype=np.float32)


def sector(size: int, z: float, seed: int) -> Field:
    """Draw an ultrasound sector with speckle, and a cyst whose depth grows with `z`; 0 to 255."""
    across, down = _grid(size)
    radius = np.sqrt(across**2 + (down + 1.05) ** 2)
    angle = np.arctan2(across, down + np.float32(1.05))
    speckle = np.random.default_rng(seed).rayleigh(38, (size, size)).astype(np.float32)
    field = speckle * (1.35 - radius / 2) + 26 * np.sin(9 * radius + 3 * angle + 4 * z)
    depth = 0.1 + 0.25 * z
    field[_ellipse(size, 0.12, depth, 0.26, 0.20, 0.3)] = 165
    field[_ellipse(size, 0.12, depth, 0.235, 0.175, 0.3)] *= 0.07
    outside = (np.abs(angle) > 0.62) | (radius > 1.98) | (radius < 0.18)  # noqa: PLR2004
    field[outside] = 0
    return np.asarray(np.clip(field, 0, 255), dtype=np.float32)


def card(size: int, z: float, seed: int) -> Field:
    """Draw a test card with a grey wedge, a grid, and a disc that moves with `z`; 0 to 255."""
    across, down = _grid(size)
    field = (np.floor((across + 1) * 8) / 16 * 255 * np.ones_like(down)).astype(np.float32)
    field[:: size // 16] = 128
    field[_ellipse(size, 0.8 * np.cos(6.28 * z) * 0.6, 0.48 * np.sin(6.28 * z), 0.2, 0.2)] = 235
    return np.asarray(np.clip(field + _noise(size, seed, 3), 0, 255), dtype=np.float32)


Draw = Callable[[int, float, int], Field]

PHANTOMS: Mapping[str, Draw] = MappingProxyType(
    {f.__name__: f for f in (chest, head, uptake, projection, sector, card)}
)
