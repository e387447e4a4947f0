"""The flow of a target: drain time, and who holds a backlog up."""

from dataclasses import replace

import pytest

from gateway.domain.flow import Bottleneck, TargetFlow
from gateway.domain.routing import Route

STEADY = TargetFlow(
    route=Route.PACS,
    target="ORTHANC",
    arrived_per_minute=60,
    delivered_per_minute=60,
    failed_per_minute=0,
    mean_seconds=0.1,
    waiting=0,
    in_flight=0,
    oldest_send_at=None,
    threads=8,
    is_open=True,
    is_arriving=True,
    destinations=(),
)


def test_the_drain_time_needs_more_out_than_in() -> None:
    """None while the backlog grows or stands; zero while nothing waits."""
    assert STEADY.drain_seconds == 0
    assert replace(STEADY, waiting=100).drain_seconds is None
    assert replace(STEADY, waiting=100, delivered_per_minute=160).drain_seconds == 60
    assert replace(STEADY, waiting=100, is_arriving=False).drain_seconds == 100


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"waiting": 5}, Bottleneck.NONE),
        ({"waiting": 500, "delivered_per_minute": 100}, Bottleneck.NONE),
        ({"waiting": 500, "is_open": False, "delivered_per_minute": 0}, Bottleneck.CLOSED),
        ({"waiting": 500, "threads": 0, "delivered_per_minute": 0}, Bottleneck.NO_PROCESSES),
        ({"waiting": 500, "mean_seconds": 7.5}, Bottleneck.PEER),
        ({"waiting": 500, "delivered_per_minute": 0, "mean_seconds": None}, Bottleneck.PEER),
        ({"waiting": 500}, Bottleneck.EDGE),
        # it accepts two associations, and each answer takes 2 s: the other six threads could not help
        ({"waiting": 500, "mean_seconds": 2.0, "in_flight": 2}, Bottleneck.PEER),
    ],
)
def test_the_bottleneck_of_a_backlog(changes: dict[str, object], expected: Bottleneck) -> None:
    """Closed and unserved targets first; then whether the threads wait for answers."""
    assert replace(STEADY, **changes).bottleneck is expected  # type: ignore[arg-type]
