"""What the console makes of rows: lines of config.yaml, positions of pages, rates of destinations."""

from datetime import UTC, datetime

import pytest
import yaml

from console.pages.positions import position, position_of
from console.views.destinations import sent_by_destination
from console.views.refusals import quoted
from gateway.domain.flow import DestinationFlow, TargetFlow
from gateway.domain.routing import Route


@pytest.mark.parametrize(
    "text",
    [
        "CT1@10.1.2.3",
        "yes",
        "1@1.2.3.4",
        "A'B@::1",
        "#X@1.1.1.1",
        "A: B@h",
        "-",
        "*@*",
        "null",
        "a\\b",
        "1e3",
    ],
)
def test_a_line_of_yaml_is_what_was_meant(text: str) -> None:
    """YAML reads the entry as the same text."""
    assert yaml.safe_load(f"    - {quoted(text)}") == [text]


def test_a_position_is_read_as_it_was_written() -> None:
    """It names the last row of a page."""
    after = (datetime(2026, 11, 28, 18, 1, 2, 345, tzinfo=UTC), "row")
    assert position_of(position(after) or "", str) == after
    assert position(None) is None


@pytest.mark.parametrize(
    "text", ["", "/", "x/y", "2026-11-28T00:00:00/a", "2026-99-01T00:00:00+00:00/a", "9" * 999]
)
def test_what_is_no_position_is_the_first_page(text: str) -> None:
    """Also a time without a zone, and a text that is too long."""
    assert position_of(text, str) is None


def test_a_worker_of_two_applications_has_the_rates_of_both() -> None:
    """Its mean duration is weighted by its attempts."""
    one = DestinationFlow("APP01", 3.0, 2.0, 1.0)
    other = DestinationFlow("APP01", 1.0, 1.0, 5.0)
    flows = [_flow("lung", one), _flow("liver", other)]
    assert sent_by_destination(flows) == {"APP01": DestinationFlow("APP01", 4.0, 3.0, 2.0)}


def _flow(application: str, sent: DestinationFlow) -> TargetFlow:
    return TargetFlow(Route.WORKERS, application, 0, 0, 0, None, 0, 0, None, 1, True, True, (sent,))
