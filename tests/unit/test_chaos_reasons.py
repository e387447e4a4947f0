"""A dead delivery of the chaos run must be explained by a fault of that run."""

from datetime import timedelta

import pytest
from proof.chaos.faults import CATALOGUE, PACS, WORKERS, Done
from proof.chaos.ledger import GIVEN_UP, NOT_SENT, Deviation
from proof.chaos.reasons import CAUSES, causes, unexplained

from gateway.domain.outcome import Limits, Outcome, decide

REFUSES = Done("answers C000 the PACS", PACS, 1, 2)
REMEMBERS = Done("answers 0111 the PACS", PACS, 1, 2)
HANGS = Done("hangs the PACS", PACS, 1, 2)
KILLS = Done("kill child of actors-workers", WORKERS, 1, 2)
SILENT = Done("inject worker_hang", WORKERS, 1, 2)

HELD = decide(
    Outcome.ALREADY_THERE,
    refusals=0,
    owed_for=timedelta(),
    conflict=True,
    limits=Limits(5, timedelta(hours=72)),
    error="",
).reason
"""In the product's own words: a pattern here that missed them failed a run of ten minutes."""


def dead(reason: str, route: str = "pacs", what: str = "dead") -> Deviation:
    """Return a delivery that ended so."""
    return Deviation(what, "1.2.3", "aa", route, reason)


@pytest.mark.parametrize(
    ("end", "fault"),
    [
        (dead("gave up after 6 attempts: ORTHANC answered 0xC000: it refuses this instance"), REFUSES),
        (dead(HELD), REMEMBERS),
        (dead("gave up after 6 attempts: ORTHANC@127.0.0.1:1: silent for 4 s"), HANGS),
        (dead("gave up after 6 attempts: aborted by the peer", "pacs (results)"), HANGS),
        (dead("process 4711 on edge died while running it (death 3)", "workers"), KILLS),
        (dead("", "workers (unheard)", GIVEN_UP), SILENT),
        (dead("the result of another version answered for it", "workers", NOT_SENT), SILENT),
    ],
)
def test_a_dead_delivery_is_explained_by_its_own_fault_only(end: Deviation, fault: Done) -> None:
    """By the fault that has this effect on that path, and by no other."""
    others = [one for one in (REFUSES, REMEMBERS, KILLS, SILENT) if one is not fault]
    assert unexplained([end], [*others, fault]) == []
    assert sum(causes([end], [fault]).values()) == 1
    if fault is not HANGS:
        others.append(Done("kill edge", frozenset(), 1, 2))
        assert unexplained([end], others) == [end]
    assert unexplained([end], []) == [end]


@pytest.mark.parametrize(
    "reason",
    [
        "gave up after 6 attempts: /data/sent/1/1.dcm holds other bytes than were received",
        "gave up after 6 attempts: no place holds 1.2.3.dcm",
        "its actor raised 10 times, last KeyError: 'x'",
        "CT in Explicit VR Little Endian was not accepted",
        "gave up after 72 hours: ORTHANC answered 0xA700: not now",
        "",
    ],
)
def test_an_effect_of_no_fault_is_never_explained(reason: str) -> None:
    """Lost files, defects, a refused class: no fault of the catalogue causes them."""
    everything = [Done(kind.name, kind.ways, 1, 2) for kind in CATALOGUE]
    for end in (dead(reason), dead(reason, what="cancelled")):
        assert unexplained([end], everything) == [end]
        assert not causes([end], everything)


def test_a_waiting_delivery_needs_no_explanation() -> None:
    """A run that does not settle fails for that reason."""
    assert unexplained([dead("", what="pending")], []) == []


def test_each_cause_has_a_fault_in_the_catalogue() -> None:
    """By its name in the catalogue: a renamed fault would explain nothing."""
    everything = [Done(kind.name, kind.ways, 1, 2) for kind in CATALOGUE]
    for cause in CAUSES:
        assert any(cause.does(fault, way) for fault in everything for way in fault.ways), cause.says
