"""Which sends count as unanswered for long, and whether that is a problem."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.database.tables.destinations import DestinationState
from gateway.database.tables.overview import Overview, Results
from gateway.database.tables.sends import Answers, Send
from gateway.diagnosis.findings import findings
from gateway.diagnosis.unanswered import Unanswered, unanswered
from gateway.domain.routing import Route

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
MEGABYTE = 1_000_000


def ago(seconds: float) -> datetime:
    """Return the time that long before NOW."""
    return NOW - timedelta(seconds=seconds)


def view(*sends: Send, answers: tuple[Answers, ...] = (), breaker: str = "closed") -> Overview:
    """Return an overview in which nothing else is of interest."""
    pacs = DestinationState(
        ae_title="ORTHANC", route=Route.PACS, breaker=breaker, probe_by_store=breaker == "open", paused=False,
        paused_by=None, failures_in_row=0, reason=None, changed_at=ago(3600), next_probe_at=None,
        max_outstanding=8, outstanding=0,
    )  # fmt: skip
    return Overview(
        now=NOW, counts=(), oldest=(), dead_reasons=(), results=Results(0, 0, 0, 0, 0, 0),
        destinations=(pacs,), receivers=1, consumers=(), received_last_minute=0, rates=(), sweeps=(),
        faults=(), dead_messages=0, dead_message=None, unforwarded=None, unserved=(), sends=sends,
        answers=answers,
    )  # fmt: skip


def texts(shown: Overview) -> list[tuple[bool, str]]:
    """Return the findings about ORTHANC."""
    return [(f.problem, f.text) for f in findings(shown, None) if f.text.startswith("ORTHANC")]


@pytest.mark.parametrize(
    ("age", "megabytes", "usual", "counts"),
    [
        (9.9, 0.5, None, False),
        (10.1, 0.5, None, True),
        (10.1, 0.5, 0.02, True),
        (24.0, 0.5, 5.0, False),  # a slow PACS: 99 of 100 take up to 5 s
        (25.1, 0.5, 5.0, True),
        (200.0, 500, 0.02, False),  # a large instance on a slow line
        (501.0, 500, 0.02, True),
    ],
)
def test_a_send_counts_after_ten_seconds_five_times_the_usual_and_the_time_of_a_slow_line(
    age: float, megabytes: float, usual: float | None, *, counts: bool
) -> None:
    """Whichever is the longest."""
    answers = () if usual is None else (Answers("ORTHANC", ago(3600), usual),)
    shown = view(Send("ORTHANC", ago(age), int(megabytes * MEGABYTE)), answers=answers)
    assert bool(list(unanswered(shown))) is counts
    assert bool(texts(shown)) is counts


def test_it_is_a_problem_where_the_peer_takes_nothing_else() -> None:
    """It names the number of instances and the age of the oldest."""
    sends = (Send("ORTHANC", ago(12), 1), Send("ORTHANC", ago(11), 1), Send("ORTHANC", ago(1), 1))
    before, since = Answers("ORTHANC", ago(13), 0.01), Answers("ORTHANC", ago(11.5), 0.01)
    assert list(unanswered(view(*sends, answers=(before,)))) == [
        Unanswered("ORTHANC", 2, timedelta(seconds=12), takes_others=False)
    ]
    [(problem, text)] = texts(view(*sends, answers=(before,)))
    assert problem
    assert text.startswith(
        "ORTHANC has not answered 2 instances, the oldest for 12.0 s; it took nothing since;"
    )
    [(problem, text)] = texts(view(*sends, answers=(since,)))
    assert not problem
    assert "it takes others" in text


def test_an_open_breaker_is_said_instead() -> None:
    """One finding about a destination that is away."""
    [(problem, text)] = texts(view(Send("ORTHANC", ago(60), 1), breaker="open"))
    assert problem
    assert "takes no C-STORE" in text
    assert "not answered" not in text


def test_each_peer_is_judged_by_its_own_answers() -> None:
    """A worker that always takes long does not hide a PACS that hangs."""
    sends = (Send("ORTHANC", ago(12), 1), Send("APP01", ago(12), 1))
    found = unanswered(view(*sends, answers=(Answers("APP01", ago(1), 9.0),)))
    assert [one.ae_title for one in found] == ["ORTHANC"]
