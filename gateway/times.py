"""Times and durations for people: local time; the offset from UTC is printed once a screen.

JSON and the log have the times in ISO 8601 with their offset. JSON has durations in seconds.
"""

from datetime import UTC, datetime, timedelta

MINUTE, HOUR, DAY = 60, 3600, 86_400


def clock(when: datetime | None) -> str:
    """Return the local time, with the date unless it is today; for a table whose title is `dated`."""
    if when is None:
        return ""
    local, now = when.astimezone(), datetime.now(UTC).astimezone()
    text = local.strftime("%H:%M:%S" if local.date() == now.date() else "%Y-%m-%d %H:%M:%S")
    # The offsets differ where daylight saving time began or ended in between.
    return text if local.utcoffset() == now.utcoffset() else f"{text}{_offset(local)}"


def moment(when: datetime) -> str:
    """Return the local time with its offset from UTC; for a sentence."""
    text = clock(when)
    offset = _offset(when.astimezone())
    return text if text.endswith(offset) else f"{text}{offset}"


def dated(title: str) -> str:
    """Return the title of a table of times, with their offset from UTC."""
    return f"{title} (times are UTC{_offset(datetime.now(UTC).astimezone())})"


def _offset(local: datetime) -> str:
    offset = local.utcoffset() or timedelta()
    minutes = round(abs(offset).total_seconds() / 60)
    return f"{'-' if offset < timedelta() else '+'}{minutes // 60:02}:{minutes % 60:02}"


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
