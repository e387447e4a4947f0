"""A target that takes instances, but only after several attempts, is a note with its reason."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.config import Configuration
from gateway.database.tables.destinations import DestinationState
from gateway.database.tables.overview import Overview, Results
from gateway.database.tables.progress import Progress
from gateway.diagnosis.progress import progress
from gateway.domain.flow import TargetFlow
from gateway.domain.routing import Route

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
PACS = DestinationState(
    ae_title="ORTHANC", route=Route.PACS, breaker="closed", probe_by_store=False, paused=False,
    paused_by=None, failures_in_row=0, reason="aborted by the peer", changed_at=NOW, next_probe_at=None,
    max_outstanding=8, outstanding=0,
)  # fmt: skip
VIEW = Overview(
    now=NOW, counts=(), oldest=(), dead_reasons=(), results=Results(0, 0, 0, 0, 0, 0),
    destinations=(PACS,), receivers=1, consumers=(), received_last_minute=0, rates=(), sweeps=(),
    faults=(), dead_messages=0, dead_message=None, unforwarded=None, unserved=(), sends=(), answers=(),
)  # fmt: skip
FLOW = TargetFlow(
    route=Route.PACS, target="ORTHANC", arrived_per_minute=60, delivered_per_minute=60, failed_per_minute=30,
    mean_seconds=0.1, waiting=0, in_flight=0, oldest_send_at=None, threads=8, is_open=True, is_arriving=True,
    destinations=(),
)  # fmt: skip


@pytest.mark.parametrize(
    ("failed", "delivered", "is_open", "named"),
    [
        (30, 60, True, True),
        (10, 0, True, True),
        (9, 0, True, False),  # chance
        (30, 300, True, False),  # 9 of 100
        (30, 60, False, False),  # its breaker is open: `destinations` says why
    ],
)
def test_many_failed_sends_are_a_note(
    configuration: Configuration, failed: float, delivered: float, *, is_open: bool, named: bool
) -> None:
    """It names the share, and the reason that was noted last."""
    flow = replace(FLOW, failed_per_minute=failed, delivered_per_minute=delivered, is_open=is_open)
    found = list(progress(VIEW, Progress(flows=(flow,)), configuration))
    assert [(one.key, one.problem) for one in found] == [("progress.failing:pacs", False)] * named
    if named:
        assert f"{failed} of {failed + delivered} sends to ORTHANC failed" in found[0].text
        assert "aborted by the peer" in found[0].text
