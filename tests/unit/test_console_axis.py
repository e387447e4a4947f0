"""The axis of a timeline: places, ticks and zooms, for every span and every text of an address."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.views.axis import TICKS, axis

FIRST = datetime(2026, 11, 28, 12, tzinfo=UTC)


@given(
    span=st.floats(0, 5e8, allow_nan=False),
    zoom=st.one_of(
        st.none(), st.text(max_size=30), st.from_regex(r"\d{1,12}(\.\d{0,5})?-\d{1,12}(\.\d{0,4})?")
    ),
)
def test_an_axis_has_a_positive_span_and_few_ticks_within_it(span: float, zoom: str | None) -> None:
    """Whatever the address says; each link leads to an axis again."""
    found = axis(FIRST, FIRST + timedelta(seconds=span), zoom)
    assert found.end > found.begin
    assert len(found.ticks) <= TICKS + 1
    assert all(-1e-6 <= tick.x <= 100 + 1e-6 for tick in found.ticks)
    for one in found.zooms:
        again = axis(FIRST, FIRST + timedelta(seconds=span), one.zoom)
        assert again.end > again.begin


def test_places_are_percents_and_labels_are_times_after_the_first_event() -> None:
    """A minute: ticks each 10 s."""
    found = axis(FIRST, FIRST + timedelta(seconds=60), "0-60")
    assert found.x(FIRST + timedelta(seconds=15)) == pytest.approx(25)
    assert [tick.label for tick in found.ticks] == [
        "0",
        "+10 s",
        "+20 s",
        "+30 s",
        "+40 s",
        "+50 s",
        "+1 min",
    ]
    assert found.ends_at == FIRST + timedelta(minutes=1)


def test_a_zoom_is_a_part_and_leads_on_and_back() -> None:
    """Closer halves it; All, Wider, Earlier and Later are offered where something is left out."""
    last = FIRST + timedelta(hours=3)
    assert [one.label for one in axis(FIRST, last).zooms] == ["All", "First minute", "First hour", "Closer"]
    part = axis(FIRST, last, "600-1200")
    zooms = {one.label: one.zoom for one in part.zooms}
    assert zooms["Closer"] == "750.000-1050.000"
    assert zooms["Wider"] == "300.000-1500.000"
    assert zooms["Earlier"] == "300.000-900.000"
    assert zooms["All"] is None
    assert not part.is_whole
