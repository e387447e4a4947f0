"""The timeline of a study as a picture: a row for each instance or series, with marks in three lanes.

    lane 0    received, and sent to each archive
    lane 1    sent to applications, and the results that they owe
    lane 2    results received, and sent to each archive

Only numbers and words are made here; console/templates/_timeline.html draws them as SVG. Places are in
percent of the width, so that a picture fits every screen without a script and without inline styles.

instance_row.py and series_rows.py make the rows, this module draws them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from console.views.axis import Axis, axis
from gateway.domain.instance import Kind

ARCHIVES, APPLICATIONS, RESULTS = 0, 1, 2
THINNEST = 0.5
"""Percent of the width that a bar has at least."""


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """Something that lasts from `begin` to `end`, or happens at `end`. `shape`: bar, line, point or end."""

    lane: int
    kind: str
    shape: str
    begin: datetime
    end: datetime
    words: str


@dataclass(frozen=True, slots=True)
class Mark:
    """An event with its place in percent."""

    lane: int
    kind: str
    shape: str
    x: float
    width: float
    words: str


@dataclass(frozen=True, slots=True)
class Word:
    """A short text beside a row; `kind` is that of a badge."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the picture: an instance, or a series with `count` instances."""

    uid: str
    kind: Kind
    count: int
    events: tuple[TimelineEvent, ...]
    words: tuple[Word, ...]
    instance_id: int | None = None
    sender: str = ""

    @property
    def spoken(self) -> str:
        """Return what the row shows, for people who cannot see it."""
        return "; ".join(word.text for word in self.words) or "received"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A row with the marks that are within the axis."""

    row: Row
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class TimelinePicture:
    """The rows with their axis."""

    axis: Axis
    rows: tuple[Drawn, ...]


def draw(rows: Sequence[Row], *, first: datetime, now: datetime, zoom: str | None) -> TimelinePicture:
    """Return the rows drawn from `first` on, the first reception of the study."""
    ends = [event.end for row in rows for event in row.events]
    along = axis(first, max(ends, default=now), zoom)
    return TimelinePicture(along, tuple(Drawn(row, tuple(_marks(row.events, along))) for row in rows))


def _marks(events: Iterable[TimelineEvent], along: Axis) -> Iterator[Mark]:
    for event in events:
        begin, end = along.x(event.begin), along.x(event.end)
        if end < 0 or begin > 100:  # noqa: PLR2004  percent
            continue
        if event.shape in {"point", "end"}:
            if end <= 100:  # noqa: PLR2004
                yield Mark(event.lane, event.kind, event.shape, end, 0, event.words)
            continue
        begin, end = max(begin, 0), min(end, 100)
        width = max(end - begin, THINNEST)
        yield Mark(event.lane, event.kind, event.shape, min(begin, 100 - width), width, event.words)
