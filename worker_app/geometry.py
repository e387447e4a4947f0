"""Give a slice of a result series the position of its source, so that a viewer sorts and places it alike.

The marked picture is larger than the source's frame and has a margin. So its pixels are smaller, and its
first pixel is at another position. Secondary Capture does not name these attributes; a Standard Extended
SOP Class may have them (PS3.2 §3.11.1).
"""

from pydicom import Dataset
from pydicom.valuerep import format_number_as_ds

from worker_app import picture

_VECTOR = 3


def copy(header: Dataset, result: Dataset) -> None:
    """Set position, orientation and spacing of `result`; do nothing where the source has no usable ones."""
    spacing = _numbers(header, "PixelSpacing", 2)
    position = _numbers(header, "ImagePositionPatient", _VECTOR)
    orientation = _numbers(header, "ImageOrientationPatient", 2 * _VECTOR)
    columns, rows = header.get("Columns"), header.get("Rows")
    if (
        not (spacing and position and orientation and min(spacing) > 0)
        or not (isinstance(columns, int) and isinstance(rows, int) and columns and rows)
        or not header.get("FrameOfReferenceUID")
        or (header.get("NumberOfFrames") or 1) != 1
    ):
        return
    scale, margin = picture.scale_and_margin(columns, rows)
    # The centre of the picture's first pixel, in pixels of the source: PS3.3 §C.7.6.2.1.1.
    across = ((0.5 - margin) / scale - 0.5) * spacing[1]
    down = (0.5 / scale - 0.5) * spacing[0]
    result.FrameOfReferenceUID = header.FrameOfReferenceUID
    result.PositionReferenceIndicator = ""
    result.ImagePositionPatient = [
        _text(position[i] + orientation[i] * across + orientation[_VECTOR + i] * down) for i in range(_VECTOR)
    ]
    result.ImageOrientationPatient = [_text(cosine) for cosine in orientation]
    result.PixelSpacing = [_text(value / scale) for value in spacing]
    thickness = _numbers(header, "SliceThickness", 1)
    if thickness:
        result.SliceThickness = _text(thickness[0])


def height(header: Dataset) -> float | None:
    """Return the distance of a slice from the origin along its normal; None if it has no position."""
    position = _numbers(header, "ImagePositionPatient", _VECTOR)
    orientation = _numbers(header, "ImageOrientationPatient", 2 * _VECTOR)
    if not position or not orientation:
        return None
    (a, b, c), (d, e, f) = orientation[:_VECTOR], orientation[_VECTOR:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    return sum(p * n for p, n in zip(position, normal, strict=True))


def _numbers(header: Dataset, keyword: str, count: int) -> list[float]:
    """Return the values of a DS attribute; none if it does not have `count` numbers."""
    try:
        value = header.get(keyword)
        values = [float(value)] if count == 1 else [float(one) for one in value]
    except (TypeError, ValueError, OverflowError):
        return []
    return values if len(values) == count and all(abs(one) < 1e6 for one in values) else []  # noqa: PLR2004  a kilometre


def _text(number: float) -> str:
    return format_number_as_ds(round(number, 6) + 0.0)
