"""What the demo prints: totals, the CT and the MR study; every study only when asked for."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from rich.console import Console

from cli.demo_report import SHOWN_MISSING, show, show_missing
from gateway.database.tables.flow import FlowStep, InstanceFlow
from gateway.lab.specimens import CT_STUDY, MR_STUDY

RECEIVED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NAMES = {"1.1": "a.dcm", "1.2": MR_STUDY, "1.3": "b.dcm", "1.4": CT_STUDY}


def way(study: str, number: int, *, delivered: bool = True) -> InstanceFlow:
    """Return the way of one instance, complete or stuck before the PACS."""
    done = RECEIVED + timedelta(seconds=1)
    leg = FlowStep("delivered", done, "ORTHANC", 10.0, None)
    stuck = FlowStep("pending", None, "ORTHANC", None, "connection refused")
    return InstanceFlow(
        study,
        f"{study}.{number}",
        "ORTHANC",
        RECEIVED,
        leg if delivered else stuck,
        leg,
        f"{study}.{number}.9",
        done,
        "APP01",
        leg,
    )


@pytest.fixture
def console() -> Console:
    """A console that keeps what it prints."""
    return Console(file=StringIO(), width=132, highlight=False)


def printed(console: Console) -> str:
    """Return what it printed."""
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_totals_then_the_ct_and_the_mr_study(console: Console) -> None:
    """No other study is printed, in whatever order they came."""
    ways = [way(study, number) for study in NAMES for number in range(2)]
    show(console, ways, {}, NAMES, every=False)
    titles = [line.strip() for line in printed(console).splitlines() if "stud" in line]
    assert titles == ["All: 4 studies", f"{CT_STUDY}: study 1.4", f"{MR_STUDY}: study 1.2"]


def test_every_study_on_request(console: Console) -> None:
    """The others come first, so that totals and verdict are the last on the screen."""
    ways = [way(study, 0) for study in NAMES]
    show(console, ways, {}, NAMES, every=True)
    titles = [line.strip() for line in printed(console).splitlines() if "stud" in line]
    assert titles == [
        "a.dcm: study 1.1",
        "b.dcm: study 1.3",
        "All: 4 studies",
        f"{CT_STUDY}: study 1.4",
        f"{MR_STUDY}: study 1.2",
    ]


@pytest.mark.parametrize(("every", "lines"), [(False, SHOWN_MISSING + 1), (True, 50)])
def test_what_is_missing_fits_a_screen(console: Console, lines: int, *, every: bool) -> None:
    """The first ones with their reason, and how many more; all of them on request."""
    ways = [way("1.4", number, delivered=False) for number in range(50)]
    show_missing(console, ways, {}, set(), every=every)
    text = printed(console).splitlines()
    assert len(text) == lines
    assert "connection refused" in text[0]
    assert every or f"{50 - SHOWN_MISSING} more" in text[-1]
