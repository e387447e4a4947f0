"""How commands show times and durations: local time, its offset from UTC said once a screen.

JSON has the same times in ISO 8601 with their offset, as the log has, and durations in seconds.
"""

from datetime import UTC, datetime, timedelta

MINUTE, HOUR, DAY = 60, 3600, 86_400


def clock(when: datetime | None) -> str:
    """The local time of day, with the date where it is another day's; for a table whose title is `dated`."""
    if when is None:
        return ""
    local, now = when.astimezone(), datetime.now(UTC).astimezone()
    text = local.strftime("%H:%M:%S" if local.date() == now.date() else "%Y-%m-%d %H:%M:%S")
    # on the other side of a change of the clocks
    return text if local.utcoffset() == now.utcoffset() else f"{text}{_offset(local)}"


def moment(when: datetime) -> str:
    """The same with its offset from UTC; for a sentence."""
    text = clock(when)
    offset = _offset(when.astimezone())
    return text if text.endswith(offset) else f"{text}{offset}"


def dated(title: str) -> str:
    """The title of a table that shows times, with their time zone."""
    return f"{title} (times are UTC{_offset(datetime.now(UTC).astimezone())})"


def _offset(local: datetime) -> str:
    offset = local.utcoffset() or timedelta()
    minutes = round(abs(offset).total_seconds() / 60)
    return f"{'-' if offset < timedelta() else '+'}{minutes // 60:02}:{minutes % 60:02}"


def span(seconds: float) -> str:
    """A duration in the unit that suits it: 35 ms, 4.2 s, 3 min, 5 h, 2 d."""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.1f} s"


def since(when: datetime, now: datetime) -> str:
    """How long ago that was."""
    return span((now - when).total_seconds())
