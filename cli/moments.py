"""Read the times that an operator types: `30min`, `2h`, `3d` ago, or a time of day, a date, or both."""

import re
from datetime import UTC, datetime, timedelta

import typer

from gateway.times import DAY, HOUR, MINUTE

_UNITS = {"s": 1, "min": MINUTE, "m": MINUTE, "h": HOUR, "d": DAY}
_AGO = re.compile(r"(\d{1,6})\s*(s|min|m|h|d)", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d))?", re.ASCII)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
EXPECTED = "30min, 2h, 3d, 04:19, 2026-11-28, or 2026-11-28 04:19"


def moment_of(text: str, option: str) -> datetime:
    """Return the time that was typed; a time of day is the last one that has passed, in local time.

    Raises:
        typer.BadParameter: it is no time, or it has not come yet.
    """
    now = datetime.now(UTC).astimezone()
    try:
        found = _typed(text.strip(), now)
    except (ValueError, OverflowError):  # OverflowError: a time before the year 1
        found = None
    if found is None or found < EARLIEST:
        raise typer.BadParameter(f"{text!r} is no time: {EXPECTED} is expected", param_hint=option)
    if found > now:
        raise typer.BadParameter(f"{text!r} has not come yet", param_hint=option)
    return found


def _typed(text: str, now: datetime) -> datetime:
    if (ago := _AGO.fullmatch(text)) is not None:
        return now - timedelta(seconds=int(ago[1]) * _UNITS[ago[2]])
    if (clock := _CLOCK.fullmatch(text)) is not None:
        at = now.replace(hour=int(clock[1]), minute=int(clock[2]), second=int(clock[3] or 0), microsecond=0)
        return at if at <= now else at - timedelta(days=1)
    return datetime.fromisoformat(text).astimezone()


def window_of(text: str, option: str) -> timedelta:
    """Return how long ago the time was that was typed.

    Raises:
        typer.BadParameter: it is no time, or it has not come yet.
    """
    began = moment_of(text, option)
    return datetime.now(UTC) - began
