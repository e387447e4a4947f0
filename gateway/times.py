"""Times and durations for people: local time; the offset from UTC is printed once a screen.

JSON and the log have the times in ISO 8601 with their offset. JSON has durations in seconds.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta

from gateway.domain.identifiers import printable

MINUTE, HOUR, DAY = 60, 3600, 86_400
LONGEST_TEXT = 40
"""A longer text is no duration; the sum of its parts could be larger than a timedelta."""

_write: ContextVar[Callable[[datetime], str] | None] = ContextVar("moment", default=None)
_UNITS = {"": 1, "s": 1, "m": MINUTE, "min": MINUTE, "h": HOUR, "d": DAY}
_PART = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(min|s|m|h|d|)")


def clock(when: datetime | None) -> str:
    """Return the local time, with the date unless it is today; for a table whose title is `dated`."""
    if when is None:
        return ""
    local, now = when.astimezone(), datetime.now(UTC).astimezone()
    text = local.strftime("%H:%M:%S" if local.date() == now.date() else "%Y-%m-%d %H:%M:%S")
    # The offsets differ where daylight saving time began or ended in between.
    return text if local.utcoffset() == now.utcoffset() else f"{text}{_offset(local)}"


def moment(when: datetime) -> str:
    """Return the local time with its offset from UTC, for a sentence; see `moments_as`."""
    write = _write.get()
    if write is not None:
        return write(when)
    text = clock(when)
    offset = _offset(when.astimezone())
    return text if text.endswith(offset) else f"{text}{offset}"


@contextmanager
def moments_as(write: Callable[[datetime], str]) -> Iterator[None]:
    """Let `moment` format times with `write`, in this thread or task and those that it begins.

    The console shows a time in the zone of its viewer, so it needs the time and not the text of the server.
    """
    token = _write.set(write)
    try:
        yield
    finally:
        _write.reset(token)


def dated(title: str) -> str:
    """Return the title of a table of times, with their offset from UTC."""
    return f"{title} (times are UTC{_offset(datetime.now(UTC).astimezone())})"


def _offset(local: datetime) -> str:
    offset = local.utcoffset() or timedelta()
    minutes = round(abs(offset).total_seconds() / 60)
    return f"{'-' if offset < timedelta() else '+'}{minutes // 60:02}:{minutes % 60:02}"


def duration_of(text: str, longest: timedelta) -> timedelta:
    """Return the duration that an operator typed: 90s, 5m, 1h30m, 2d; a number alone is in seconds.

    Raises:
        ValueError: it is no duration, or not within 0 and `longest`; says what is expected.
    """
    typed = text.strip()
    parts = list(_PART.finditer(typed)) if len(typed) <= LONGEST_TEXT else []
    if not parts or "".join(part[0] for part in parts) != typed:
        raise ValueError(f"{printable(text, 40)!r} is not a time; write 90s, 5m or 1h30m")
    lasting = timedelta(seconds=sum(float(part[1]) * _UNITS[part[2]] for part in parts))
    if not timedelta() < lasting <= longest:
        raise ValueError(f"the time must be more than 0 s, and at most {longest.days} days")
    return lasting


def span(seconds: float) -> str:
    """Return a duration in a suitable unit: 35 ms, 4.2 s, 3 min, 5 h, 2 d."""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.1f} s"


def since(when: datetime, now: datetime) -> str:
    """Return how long before `now` the time `when` was."""
    return span((now - when).total_seconds())
