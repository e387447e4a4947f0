"""Draw the picture of a result: the first frame of the source with a mark, or a panel of text.

The same frame, attributes and AE title always give the same pixels. No patient data is drawn. Each worker has
its own colour, so that people can distinguish its results from those of other workers.
"""

import colorsys
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from worker_app.source import NoPictureError, Source

LONGEST_SIDE = 768
SHORTEST_LONGEST_SIDE = 512
NARROWEST = 384
CAPTION_HEIGHT = 46
PANEL = (512, 512)
DISCLAIMER = "Demonstration only, not for diagnosis"

_TEXT = (236, 240, 244)
_FAINT_TEXT = (150, 160, 172)
_BACKGROUND = (14, 17, 22)

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]


def draw(source: Source, ae_title: str) -> Pixels:
    """Return RGB pixels, rows by columns by 3: the marked frame, or the panel if no frame can be shown."""
    try:
        frame = source.first_frame()
    except NoPictureError as reason:
        return np.asarray(_panel(source, ae_title, str(reason)), dtype=np.uint8)
    return np.asarray(_marked(_fitted(eight_bit(frame, source.header)), source, ae_title), dtype=np.uint8)


def eight_bit(frame: NDArray[Any], header: Dataset) -> Pixels:
    """Return `frame` in 8 bits, scaled by its VOI window.

    If nearly no value is inside the window, it is scaled by the range of its values.
    """
    # Twice the final resolution is enough to see everything, and limits the memory of the next steps.
    step = max(1, max(frame.shape[:2]) // (2 * LONGEST_SIDE))
    frame = frame[::step, ::step]
    if frame.ndim == 3:  # noqa: PLR2004  rows, columns, samples
        if frame.dtype == np.uint8:
            return np.asarray(frame[..., :3], dtype=np.uint8)
        top = max(1.0, float(frame.max(initial=1)))
        return _scaled(frame[..., :3].astype(np.float32) / top)
    values = np.nan_to_num(frame.astype(np.float32))
    values = values * _number(header, "RescaleSlope", 1.0) + _number(header, "RescaleIntercept", 0.0)
    centre, width = _number(header, "WindowCenter", 0.0), _number(header, "WindowWidth", 0.0)
    low, high = centre - width / 2, centre + width / 2
    shown = float(np.mean((values > low) & (values < high))) if width >= 1 else 0.0
    if shown < 0.02:  # noqa: PLR2004  with this window the picture would be black or white
        low, high = (float(p) for p in np.percentile(values, (0.5, 99.5)))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    grey = (values - low) / max(high - low, 1e-6)
    return _scaled(1 - grey if header.get("PhotometricInterpretation") == "MONOCHROME1" else grey)


def _scaled(fractions: NDArray[np.float32]) -> Pixels:
    """Convert 0 to 1 into 0 to 255."""
    return np.asarray(np.clip(fractions, 0, 1) * 255, dtype=np.uint8)


def _number(header: Dataset, keyword: str, default: float) -> float:
    """Return the first value of a DS attribute; `default` if it is missing, empty or not a number."""
    try:
        value = header.get(keyword)
        number = float(value[0] if isinstance(value, MultiValue) else value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return default
    return number if np.isfinite(number) and abs(number) < 1e9 else default  # noqa: PLR2004  larger than any real window


def scale_and_margin(columns: int, rows: int) -> tuple[float, int]:
    """Return how much larger `draw` shows a frame of that size, and how many pixels are left of it."""
    longest = max(columns, rows)
    wanted = _wanted(longest)
    return wanted / longest, _margin(round(columns * wanted / longest))


def _wanted(longest: int) -> int:
    """Return the longest side of the shown frame."""
    return min(max(longest, SHORTEST_LONGEST_SIDE), LONGEST_SIDE)


def _margin(width: int) -> int:
    return (max(width, NARROWEST) - width) // 2


def _fitted(pixels: Pixels) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    longest = max(picture.size)
    wanted = _wanted(longest)
    if longest == wanted:
        return picture
    size = [max(1, round(side * wanted / longest)) for side in picture.size]
    return picture.resize((size[0], size[1]), Image.Resampling.BICUBIC)


def _marked(picture: Image.Image, source: Source, ae_title: str) -> Image.Image:
    colour = _colour(ae_title)
    width = max(picture.width, NARROWEST)
    canvas = Image.new("RGB", (width, picture.height + CAPTION_HEIGHT), _BACKGROUND)
    left = _margin(picture.width)
    canvas.paste(picture, (left, 0))
    pen = ImageDraw.Draw(canvas)
    _corners(pen, (left + 6, 6, left + picture.width - 7, picture.height - 7), colour)
    _label(pen, (left + 14, 14), f"AI_RESULT {ae_title}", colour)
    modality = str(source.header.get("Modality") or "")[:16]
    shape = f"{source.header.get('Columns')} x {source.header.get('Rows')}"
    number = source.header.get("InstanceNumber")
    facts = "  ·  ".join(
        fact for fact in (modality, shape, f"source instance {number}" if number else "") if fact
    )
    pen.text((12, picture.height + 7), facts, font=_font(14), fill=_TEXT)
    pen.text((12, picture.height + 26), DISCLAIMER, font=_font(12), fill=_FAINT_TEXT)
    pen.rectangle((0, picture.height, width, picture.height + 1), fill=colour)
    return canvas


def _panel(source: Source, ae_title: str, reason: str) -> Image.Image:
    colour = _colour(ae_title)
    canvas = Image.new("RGB", PANEL, _BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    _corners(pen, (10, 10, PANEL[0] - 11, PANEL[1] - 11), colour)
    _label(pen, (36, 40), f"AI_RESULT {ae_title}", colour, size=22)
    lines = [
        ("Source object", UID(source.sop_class_uid).name),
        ("Transfer syntax", UID(source.transfer_syntax_uid).name),
        ("SOP Instance UID", source.sop_instance_uid),
        ("Picture", reason),
    ]
    y = 112
    for title, text in lines:
        pen.text((36, y), title, font=_font(13), fill=_FAINT_TEXT)
        y += 19
        for piece in _wrapped(text):
            pen.text((36, y), piece, font=_font(17), fill=_TEXT)
            y += 23
        y += 14
    pen.text((36, PANEL[1] - 52), DISCLAIMER, font=_font(13), fill=_FAINT_TEXT)
    return canvas


def _wrapped(text: str, columns: int = 46) -> list[str]:
    return [text[start : start + columns] for start in range(0, min(len(text), 2 * columns), columns)]


def _label(pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, colour: Colour, size: int = 16) -> None:
    left, top, right, bottom = pen.textbbox(at, text, font=_font(size))
    pen.rectangle((left - 6, top - 5, right + 6, bottom + 5), fill=colour)
    pen.text(at, text, font=_font(size), fill=_BACKGROUND)


def _corners(pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], colour: Colour) -> None:
    left, top, right, bottom = box
    arm = max(4, min(right - left, bottom - top) // 8)
    for x, inward_x in ((left, arm), (right, -arm)):
        for y, inward_y in ((top, arm), (bottom, -arm)):
            pen.line((x, y, x + inward_x, y), fill=colour, width=3)
            pen.line((x, y, x, y + inward_y), fill=colour, width=3)


def _colour(ae_title: str) -> Colour:
    """Return a bright colour; the golden ratio makes the colours of APP01 and APP02 differ clearly."""
    number = int("".join(c for c in ae_title if c.isdecimal())[-4:] or zlib.crc32(ae_title.encode()) % 997)
    red, green, blue = colorsys.hsv_to_rgb((0.48 + number * 0.618034) % 1.0, 0.62, 0.98)
    return round(red * 255), round(green * 255), round(blue * 255)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
