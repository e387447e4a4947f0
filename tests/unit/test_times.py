"""Times and durations as commands show them."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import typer

from cli.moments import moment_of, window_of
from cli.screen import shortened
from gateway.times import clock, dated, duration_of, moment, moments_as, since, span


@pytest.fixture
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the time zone of this process."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("zone", "offset"),
    [("UTC", "+00:00"), ("<+0530>-5:30", "+05:30"), ("<-0330>3:30", "-03:30")],
    indirect=["zone"],
)
def test_the_offset_is_in_a_title_or_beside_a_time(zone: str, offset: str) -> None:
    """Local time, with its difference from UTC."""
    del zone
    now = datetime.now(UTC)
    assert dated("Studies") == f"Studies (times are UTC{offset})"
    assert moment(now) == f"{clock(now)}{offset}"
    assert clock(now) == f"{now.astimezone():%H:%M:%S}"


@pytest.mark.parametrize("zone", ["CET-1CEST,M3.5.0,M10.5.0/3"], indirect=True)
def test_a_time_under_another_offset_has_its_own(zone: str) -> None:
    """Half a year ago the offset was another one than that in the title."""
    del zone
    winter, summer = (datetime(2020, month, 1, 12, tzinfo=UTC) for month in (1, 7))
    shown = [clock(winter), clock(summer)]
    assert sorted(text[19:] for text in shown) in (["", "+01:00"], ["", "+02:00"])
    assert (moment(winter), moment(summer)) == ("2020-01-01 13:00:00+01:00", "2020-07-01 14:00:00+02:00")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 ms"), (0.035, "35 ms"), (4.2, "4.2 s"), (180, "3 min"), (5 * 3600, "5 h"), (2 * 86400, "2 d")],
)
def test_a_duration_has_one_suitable_unit(seconds: float, text: str) -> None:
    """The same on every screen."""
    assert span(seconds) == text
    now = datetime.now(UTC)
    assert since(now - timedelta(seconds=seconds), now) == text


def test_a_uid_is_shortened_at_its_start() -> None:
    """Its end distinguishes the instances of a study."""
    assert shortened("1.2.3", 5) == "1.2.3"
    assert shortened("1.2.3.4", 5) == "….3.4"
    assert len(shortened("1" * 64, 10)) == 10


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("5m", 300), ("5min", 300), (" 1h30m ", 5400), ("1.5h", 5400), ("7d", 604_800)],
)
def test_a_typed_duration_is_read(text: str, seconds: int) -> None:
    """Seconds, minutes, hours, days, and their sums."""
    assert duration_of(text, timedelta(days=7)) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "soon", "-1s", "0", "8d", "1h 30m", "٣m", "1e3s", "999999d" * 1000])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Also a negative one, one that is too long, and digits of another script."""
    with pytest.raises(ValueError, match="time"):
        duration_of(text, timedelta(days=7))


def test_moments_are_written_in_another_way_within_a_block() -> None:
    """And afterwards as before."""
    when = datetime(2026, 3, 1, tzinfo=UTC)
    with moments_as(lambda one: f"<{one:%Y}>"):
        assert moment(when) == "<2026>"
    assert moment(when) != "<2026>"


@pytest.mark.parametrize(
    "text", ["0001-01-01", "9999-12-31T23:59:59-23:00", "999999d", "1969-12-31", "", "99:99"]
)
def test_a_time_that_no_row_can_have_is_no_time(text: str) -> None:
    """Python's arithmetic and PostgreSQL refuse such times."""
    with pytest.raises(typer.BadParameter, match="is no time"):
        moment_of(text, "--since")


@pytest.mark.parametrize("text", ["9000-12-31", "2999-01-01 04:19"])
def test_a_time_that_has_not_come_yet_is_refused(text: str) -> None:
    """Nothing was received then."""
    with pytest.raises(typer.BadParameter, match="has not come yet"):
        moment_of(text, "--at")


def test_a_time_before_now_or_of_another_zone_is_taken() -> None:
    """A duration, and a time with its own offset."""
    assert timedelta(minutes=30) <= window_of("30min", "--since") < timedelta(minutes=31)
    assert moment_of("2020-01-01T00:00+23:00", "--at") == datetime(2019, 12, 31, 1, tzinfo=UTC)
