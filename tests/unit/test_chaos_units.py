"""The ledger of units of the chaos run: a unit counts if its worker noted all of it during one sending."""

from dataclasses import replace

import pytest
from proof.chaos.journal import Entry
from proof.chaos.ledger import MISSING, NOT_SENT, Version
from proof.chaos.unit_ledger import Dispatch, SeenUnit, Units, draw_units

ONE: Version = ("1.2.3", "aa")
OTHER: Version = ("1.2.4", "bb")
SENT = Dispatch("APP01", 100.0, 110.0, "sent")
UNIT = SeenUnit(7, "chest-ct", "answered", frozenset({ONE, OTHER}), (SENT,))
ROUTE = "units of chest-ct"


def took(*noted: tuple[Version, float]) -> dict[str, list[Entry]]:
    """Return the journal of APP01."""
    return {"APP01": [Entry(at, uid, digest, "0000", "took") for (uid, digest), at in noted]}


WHOLE = took((ONE, 101), (OTHER, 102))


def test_a_unit_that_its_worker_noted_whole_is_counted() -> None:
    """By its state; no deviation."""
    ledger = draw_units([UNIT, replace(UNIT, number=8, state="timed_out")], WHOLE, [])
    assert ledger.states == {ROUTE: {"answered": 1, "timed_out": 1}}
    assert not ledger.deviations


@pytest.mark.parametrize(
    "noted",
    [took((ONE, 101)), took((ONE, 101), (OTHER, 99)), took((ONE, 101), (OTHER, 111)), {}],
    ids=["one is missing", "one came before", "one came after", "no journal"],
)
def test_a_unit_that_was_not_whole_at_its_worker_is_a_deviation(noted: dict[str, list[Entry]]) -> None:
    """Each instance counts only within the last sending; the fault that answers for a worker explains it."""
    ledger = draw_units([UNIT], noted, [])
    assert OTHER in {(one.sop_instance_uid, one.digest) for one in ledger.deviations}
    assert {one.what for one in ledger.deviations} == {MISSING}
    hung = draw_units([UNIT], noted, [(90.0, 100.5)])
    assert {one.what for one in hung.deviations} == {NOT_SENT}
    assert hung.not_sent == {ONE, OTHER}
    assert {one.what for one in draw_units([UNIT], noted, [(80.0, 90.0)]).deviations} == {MISSING}


def test_only_the_last_sending_counts() -> None:
    """A sender that died, and a worker that did not answer, have dispatches of their own."""
    lost = Dispatch("APP01", 90.0, 95.0, "lost")
    again = Dispatch("APP02", 120.0, 130.0, "sent")
    unit = replace(UNIT, dispatches=(lost, SENT, again))
    assert len(draw_units([unit], WHOLE, []).deviations) == 2
    second = {"APP02": [replace(entry, at=125.0) for entry in WHOLE["APP01"]]}
    assert not draw_units([unit], WHOLE | second, []).deviations


@pytest.mark.parametrize("state", ["collecting", "complete", "sending", "sent"])
def test_a_unit_that_is_not_settled_keeps_the_ledger_open(state: str) -> None:
    """Also if its worker has all of it."""
    ledger = draw_units([replace(UNIT, state=state)], WHOLE, [])
    assert ledger.states == {ROUTE: {MISSING: 1}}
    assert [one.what for one in ledger.deviations] == [MISSING]


def test_answered_without_a_sending_is_a_deviation() -> None:
    """A generation that was replaced before it was sent is none."""
    assert draw_units([replace(UNIT, dispatches=())], WHOLE, []).deviations
    assert not draw_units([replace(UNIT, state="superseded", dispatches=())], WHOLE, []).deviations


def test_a_unit_that_was_deleted_before_its_last_state_was_seen_is_no_deviation() -> None:
    """Only settled units are deleted; one that was never seen unsettled is not asked for."""
    units = Units()
    units.learn([replace(UNIT, state="sent"), replace(UNIT, number=8)])
    assert units.unsettled() == [7]
    units.learn([], asked=units.unsettled())
    ledger = draw_units(units.seen.values(), WHOLE, [])
    assert ledger.states == {ROUTE: {"answered": 1, "deleted": 1}}
    assert not ledger.deviations


def test_members_that_were_purged_are_remembered() -> None:
    """Until the unit is sent again."""
    units = Units()
    units.learn([UNIT])
    units.learn([replace(UNIT, members=frozenset({ONE}))])
    assert units.seen[7].members == {ONE, OTHER}
    again = replace(SENT, began=120.0)
    units.learn([replace(UNIT, members=frozenset({ONE}), dispatches=(SENT, again))])
    assert units.seen[7].members == {ONE}
