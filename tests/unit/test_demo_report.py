"""The output of the demo: totals, the CT and the MR study; every study on request."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from rich.console import Console

from cli.demo_report import SHOWN_MISSING, missing, show, show_missing
from cli.demo_run import DemoRun
from gateway.domain.instance import Kind, Place
from gateway.domain.timeline import InstanceTimeline, Step, StepName
from gateway.lab.specimens import CT_STUDY, MR_STUDY

RECEIVED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NAMES = {"1.1": "a.dcm", "1.2": MR_STUDY, "1.3": "b.dcm", "1.4": CT_STUDY}


def timeline(study: str, number: int, *, delivered: bool = True) -> InstanceTimeline:
    """Return the timeline of one instance, complete or waiting for the PACS."""
    done = RECEIVED + timedelta(seconds=1)
    steps = [Step(name, done, 0.01, "ORTHANC", "delivered", done=True) for name in StepName]
    if not delivered:
        steps[1] = Step(StepName.PACS, done, None, "ORTHANC", "pending", error="connection refused")
    uid = f"{study}.{number}"
    return InstanceTimeline(
        instance_id=number,
        sop_instance_uid=uid,
        study_instance_uid=study,
        kind=Kind.ORIGINAL,
        place=Place.SENT,
        conflict=False,
        repeats=0,
        unforwarded=0,
        result_sop_instance_uids=(f"{uid}.9",),
        steps=tuple(steps),
    )


@pytest.fixture
def screen() -> Console:
    """Return a console that keeps what it prints."""
    return Console(file=StringIO(), width=132, highlight=False)


def printed(screen: Console) -> str:
    """Return what it printed."""
    assert isinstance(screen.file, StringIO)
    return screen.file.getvalue()


def test_totals_then_the_ct_and_the_mr_study(screen: Console) -> None:
    """No other study is printed, whatever the order of the studies."""
    run = DemoRun(NAMES, timelines=[timeline(study, number) for study in NAMES for number in range(2)])
    show(screen, run, every=False)
    titles = [line.split(" (")[0] for line in printed(screen).splitlines() if "stud" in line]
    assert titles == ["All: 4 studies", f"{CT_STUDY}: study 1.4", f"{MR_STUDY}: study 1.2"]


def test_every_study_on_request(screen: Console) -> None:
    """The others come first, so totals and verdict are the last lines."""
    run = DemoRun(NAMES, timelines=[timeline(study, 0) for study in NAMES])
    show(screen, run, every=True)
    titles = [line.split(" (")[0] for line in printed(screen).splitlines() if "stud" in line]
    assert titles == [
        "a.dcm: study 1.1",
        "b.dcm: study 1.3",
        "All: 4 studies",
        f"{CT_STUDY}: study 1.4",
        f"{MR_STUDY}: study 1.2",
    ]


@pytest.mark.parametrize(("every", "lines"), [(False, SHOWN_MISSING + 1), (True, 50)])
def test_missing_instances_fit_a_screen(screen: Console, lines: int, *, every: bool) -> None:
    """The first ones with their reason, and the number of the others; all of them on request."""
    run = DemoRun(NAMES, timelines=[timeline("1.4", number, delivered=False) for number in range(50)])
    show_missing(screen, run, every=every)
    text = printed(screen).splitlines()
    assert len(text) == lines
    assert "PACS: pending: connection refused" in text[0]
    assert every or f"{50 - SHOWN_MISSING} more" in text[-1]


def test_a_result_that_the_pacs_does_not_list_is_missing() -> None:
    """The PACS has the last word, not the rows."""
    run = DemoRun(NAMES, timelines=[timeline("1.4", 1)], held={"1.4.1"})
    assert not run.is_complete()
    assert list(missing(run)) == ["1.4.1: delivered, but the PACS does not hold it or its result"]
