"""The chaos run: what a sender noticed while PostgreSQL was away, and what another fault excuses."""

import pytest
from proof.chaos.faults import RECEIVE, SENDING, Done
from proof.chaos.journal import BROKEN, NOT_OPENED, SUCCESS, Entry
from proof.chaos.outages import BACK_SECONDS, MARGIN_SECONDS, judge

AWAY = Done("take away postgres", SENDING, 100, 120)


def entry(at: float, status: str = SUCCESS, seconds: float = 0.1) -> Entry:
    """Return an answer at that time."""
    return Entry(at, "1.2.3", "aa", status, "new:original", seconds)


@pytest.mark.parametrize("wrong", [("A700", 0.1), (BROKEN, 0.1), (NOT_OPENED, 0.1), (SUCCESS, 2.1)])
@pytest.mark.parametrize("at", [100, 110, 120, 120 + BACK_SECONDS])
def test_a_refusal_and_a_slow_answer_are_noticed(wrong: tuple[str, float], at: float) -> None:
    """Also an association that was not opened, and shortly after the outage."""
    noticed = entry(at, *wrong)
    verdict = judge([AWAY], [entry(at), noticed])
    assert verdict.felt == [noticed]
    assert (verdict.judged, verdict.seconds, verdict.slowest) == (2, 20, max(0.1, wrong[1]))


def test_only_c_stores_of_the_outage_are_judged() -> None:
    """One that began in the outage and was answered later counts."""
    late = entry(140, seconds=30)
    verdict = judge([AWAY], [entry(99, "A700"), entry(121 + BACK_SECONDS, "A700"), late])
    assert verdict.felt == [late]
    assert verdict.judged == 1
    assert judge([], [late]).judged == 0


def test_another_fault_of_reception_excuses_what_it_caused() -> None:
    """It does so for a moment after its end; an injected one until PostgreSQL is back."""
    refused = [entry(at, "A700") for at in (105, 106 + MARGIN_SECONDS - 1, 106 + MARGIN_SECONDS + 1)]
    killed = Done("without PostgreSQL: kill edge", RECEIVE, 104, 106)
    assert judge([AWAY, killed], refused).felt == refused[2:]
    assert judge([AWAY, Done("inject reject_all", RECEIVE, 104, 106)], refused).felt == []
    assert judge([AWAY, Done("kill pacs", SENDING, 104, 106)], refused).felt == refused


def test_overlapping_outages_are_one() -> None:
    """Their seconds are counted once."""
    assert judge([AWAY, Done("kill postgres", SENDING, 110, 110)], []).seconds == 20
    assert judge([AWAY, Done("kill postgres", SENDING, 210, 210)], []).seconds == 20
