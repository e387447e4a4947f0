"""The time axis of a timeline: places in percent, ticks, and the links that zoom.

A zoom is in seconds since the first event, as `12.5-60`, so that an address of a page stays short.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from gateway.times import DAY, HOUR, MINUTE

SHORTEST = 0.05
"""Seconds that an axis has at least."""
MARGIN = 0.02
"""Part of the span that is left free at its end."""
TICKS = 6
_STEPS: Sequence[float] = (
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30,
    *(MINUTE * one for one in (1, 2, 5, 10, 15, 30)),
    *(HOUR * one for one in (1, 2, 3, 6, 12)),
    *(DAY * one for one in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
)  # fmt: skip
_ZOOM = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)-(\d{1,9}(?:\.\d{1,3})?)", re.ASCII)


class Tick(NamedTuple):
    """A line of the grid: its place in percent, and its label such as `+10 s`."""

    x: float
    label: str


class Zoom(NamedTuple):
    """A link that shows another part: its label, and the value of `zoom` (None: the whole)."""

    label: str
    zoom: str | None
    is_now: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """A part of the time since `first`, from `begin` to `end` in seconds; `whole` is all that there is."""

    first: datetime
    begin: float
    end: float
    whole: float

    def seconds(self, when: datetime) -> float:
        """Return the seconds from the first event to `when`."""
        return (when - self.first).total_seconds()

    def x(self, when: datetime) -> float:
        """Return the place of a time in percent; below 0 or above 100 outside of the part that is shown."""
        return 100 * (self.seconds(when) - self.begin) / (self.end - self.begin)

    @property
    def begins_at(self) -> datetime:
        """The time at the left end."""
        return self.first + timedelta(seconds=self.begin)

    @property
    def ends_at(self) -> datetime:
        """The time at the right end."""
        return self.first + timedelta(seconds=self.end)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left out."""
        return self.begin <= 0 and self.end >= self.whole

    @property
    def ticks(self) -> list[Tick]:
        """The lines of the grid, at round times after the first event."""
        shown = self.end - self.begin
        step = next((one for one in _STEPS if shown / one <= TICKS), _STEPS[-1])
        first = math.ceil(self.begin / step)
        count = int((self.end - first * step) / step) + 1
        places = [(first + number) * step for number in range(min(count, TICKS + 1))]
        return [Tick(100 * (one - self.begin) / shown, _label(one)) for one in places]

    @property
    def zooms(self) -> list[Zoom]:
        """The links: the whole, its beginning and end, closer, wider, earlier, later."""
        shown = self.end - self.begin
        middle = (self.begin + self.end) / 2
        found = [Zoom("All", None, is_now=self.is_whole)]
        found += [
            Zoom(f"First {label}", text_of(0, seconds), is_now=(self.begin, self.end) == (0, seconds))
            for seconds, label in ((MINUTE, "minute"), (HOUR, "hour"))
            if self.whole > 2 * seconds
        ]
        found.append(Zoom("Closer", text_of(middle - shown / 4, middle + shown / 4)))
        if not self.is_whole:
            found.append(Zoom("Wider", text_of(middle - shown, middle + shown)))
            found.append(Zoom("Earlier", text_of(self.begin - shown / 2, self.end - shown / 2)))
            found.append(Zoom("Later", text_of(self.begin + shown / 2, self.end + shown / 2)))
        return found


def axis(first: datetime, last: datetime, zoom: str | None = None) -> Axis:
    """Return the axis from `first` to `last`, or the part that `zoom` names; another text is ignored."""
    whole = max((last - first).total_seconds(), SHORTEST) * (1 + MARGIN)
    found = _ZOOM.fullmatch(zoom or "")
    begin, end = (float(found[1]), float(found[2])) if found else (0.0, whole)
    if end - begin < SHORTEST or begin >= whole:
        begin, end = 0.0, whole
    return Axis(first, begin, end, whole)


def text_of(begin: float, end: float) -> str:
    """Return the value of `zoom` for a part; a part that begins before the first event is shifted."""
    shift = -min(begin, 0)
    return f"{begin + shift:.3f}-{max(end + shift, begin + shift + SHORTEST):.3f}"


def _label(seconds: float) -> str:
    if seconds == 0:
        return "0"
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (1, "s")):
        if seconds >= unit:
            return f"+{seconds / unit:.4g} {name}"
    return f"+{seconds * 1000:.0f} ms"
