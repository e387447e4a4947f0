"""The timeline of a study: what happened to each of its instances, when, how long it took, and by whom.

gateway/database/tables/timeline.py derives the steps from the rows; this module holds and summarizes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from statistics import median

from gateway.domain.instance import Kind, Place


class StepName(StrEnum):
    """The steps of an instance, in the order of its life."""

    RECEIVED = "received"
    PACS = "PACS"
    ARCHIVE = "archive"
    WORKER_ASKED = "worker asked"
    WORKER = "worker"
    RESULT = "result"
    RESULT_AT_PACS = "result at PACS"
    RESULT_AT_ARCHIVE = "result at archive"


AT_ARCHIVES = frozenset({StepName.ARCHIVE, StepName.RESULT_AT_ARCHIVE})
"""Steps of the archives beside the PACS: one for each archive, none where there is no archive."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a timeline.

    `at` is the end of the step; for a step that has not happened yet, the time when it is due (None: not
    known). `by` is an AE title; for a cancelled delivery, the operator. `outcome` is the outcome of an
    attempt, or the state of a delivery or result. `status` is a DIMSE status.
    """

    name: StepName
    at: datetime | None
    seconds: float | None
    by: str | None
    outcome: str
    status: int | None = None
    error: str | None = None
    done: bool = False


@dataclass(frozen=True, slots=True)
class InstanceTimeline:
    """An instance with its steps and the steps of its results, in order of time."""

    instance_id: int
    sop_instance_uid: str
    study_instance_uid: str
    kind: Kind
    place: Place
    conflict: bool
    repeats: int
    unforwarded: int
    """How many repeats were not forwarded because the instance had been delivered."""
    result_sop_instance_uids: tuple[str, ...]
    """The results that were derived from this instance, in order of reception."""
    steps: tuple[Step, ...]

    def is_done(self, name: StepName) -> bool:
        """Tell whether that step was completed; at archives, whether each of them has the instance."""
        of_name = [step for step in self.steps if step.name is name]
        if name not in AT_ARCHIVES:
            return any(step.done for step in of_name)
        return {step.by for step in of_name} == {step.by for step in of_name if step.done} != set()

    def expects(self, name: StepName) -> bool:
        """Tell whether that step belongs to this instance."""
        return name not in AT_ARCHIVES or any(step.name is name for step in self.steps)

    def missing(self) -> StepName | None:
        """Return the first step that was not completed; None if all were."""
        return next((name for name in StepName if self.expects(name) and not self.is_done(name)), None)


@dataclass(frozen=True, slots=True)
class StepSummary:
    """One step of several instances; durations are in seconds, None if not known."""

    name: StepName
    done: int
    first: datetime | None
    last: datetime | None
    median_seconds: float | None
    longest_seconds: float | None
    by: tuple[str, ...]


def summary(timelines: Sequence[InstanceTimeline]) -> list[StepSummary]:
    """Summarize each step: how many instances completed it, when, how long it took, and by whom."""
    shown = [
        name for name in StepName if name not in AT_ARCHIVES or any(one.expects(name) for one in timelines)
    ]
    return [_summary_of(name, timelines) for name in shown]


def _summary_of(name: StepName, timelines: Sequence[InstanceTimeline]) -> StepSummary:
    done = [timeline for timeline in timelines if timeline.is_done(name)]
    steps = [step for timeline in done for step in timeline.steps if step.name is name and step.done]
    times = sorted(step.at for step in steps if step.at is not None)
    seconds = [step.seconds for step in steps if step.seconds is not None]
    return StepSummary(
        name,
        len(done),
        times[0] if times else None,
        times[-1] if times else None,
        median(seconds) if seconds else None,
        max(seconds, default=None),
        tuple(sorted({step.by for step in steps if step.by is not None})),
    )
