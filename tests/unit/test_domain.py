"""The rules of the edge: states, outcomes, statuses, backoff, identifiers, matching."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.backoff import delay
from gateway.domain.delivery import TRANSITIONS, Event, State, from_states, pairs
from gateway.domain.dimse_status import Meaning, meaning_of
from gateway.domain.identifiers import MAX_DATA_SET_UID_LENGTH, is_ae_title, is_uid, printable
from gateway.domain.instance import Kind, file_names
from gateway.domain.matching import Candidate, Correlation, is_result, match
from gateway.domain.outcome import OUTCOME_OF, RULES, Limits, Outcome, PeerHealth, decide
from gateway.domain.routing import (
    BEHIND,
    PRIORITY,
    Mode,
    Origin,
    Route,
    Target,
    Targets,
    priority_for,
    route_of_queue,
)

LIMITS = Limits(max_retries=5, give_up_after=timedelta(hours=72))


# ---- delivery ----------------------------------------------------------------------------------------


def test_every_state_has_an_exit_and_every_event_a_transition() -> None:
    """G2: an event leads on from each state, and each event is in the table."""
    assert {state for state, _ in TRANSITIONS} == set(State)
    assert {event for _, event in TRANSITIONS} == set(Event)


@given(st.lists(st.sampled_from(Event)))
def test_any_event_leads_to_a_state_of_the_table(events: list[Event]) -> None:
    """An event without a transition changes nothing."""
    state = State.PENDING
    for event in events:
        after = TRANSITIONS.get((state, event), state)
        assert after is state or (state, after) in pairs()
        assert (state in from_states(event)) == ((state, event) in TRANSITIONS)
        state = after


def test_delivered_needs_a_claim_or_a_result() -> None:
    """G2: a send, or the result that proves an earlier one."""
    assert [key for key, after in TRANSITIONS.items() if after is State.DELIVERED] == [
        (State.COLLECTING, Event.UNIT_SENT),
        (State.IN_FLIGHT, Event.DELIVER),
        (State.PENDING, Event.ANSWERED),
    ]


# ---- outcome -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "conflict", "attempts", "hours", "event", "counted", "behind", "peer"),
    [
        (Outcome.DELIVERED, False, 0, 0, Event.DELIVER, True, False, PeerHealth.WORKS),
        (Outcome.ALREADY_THERE, False, 0, 0, Event.DELIVER, True, False, PeerHealth.WORKS),
        (Outcome.ALREADY_THERE, True, 0, 0, Event.DIE, True, False, PeerHealth.WORKS),
        (Outcome.NOT_NOW, False, 1000, 71.9, Event.RETRY, True, False, PeerHealth.SUSPECT),
        (Outcome.NOT_NOW, False, 0, 72, Event.DIE, True, False, PeerHealth.SUSPECT),
        (Outcome.REFUSED, False, 4, 999, Event.RETRY, True, False, PeerHealth.WORKS),
        (Outcome.REFUSED, False, 5, 0, Event.DIE, True, False, PeerHealth.WORKS),
        (Outcome.NEVER, False, 0, 0, Event.DIE, True, False, PeerHealth.WORKS),
        (Outcome.AWAY, False, 1000, 999, Event.RETRY, False, False, PeerHealth.AWAY),
        (Outcome.CROWDED, False, 1000, 999, Event.RETRY, False, False, PeerHealth.UNKNOWN),
        (Outcome.OVERTAKEN, False, 1000, 999, Event.RETRY, False, False, PeerHealth.UNKNOWN),
        (Outcome.BROKEN, False, 4, 0, Event.RETRY, True, True, PeerHealth.SUSPECT),
        (Outcome.BROKEN, False, 5, 0, Event.DIE, True, False, PeerHealth.SUSPECT),
        (Outcome.LOST_FILE, False, 4, 0, Event.RETRY, True, False, PeerHealth.UNKNOWN),
        (Outcome.LOST_FILE, False, 5, 0, Event.DIE, True, False, PeerHealth.UNKNOWN),
        (Outcome.NOT_READ, False, 1000, 71.9, Event.RETRY, True, False, PeerHealth.UNKNOWN),
        (Outcome.NOT_READ, False, 0, 72, Event.DIE, True, False, PeerHealth.UNKNOWN),
    ],
)
def test_the_table_of_outcomes(  # noqa: PLR0917  the columns of the table
    outcome: Outcome,
    conflict: bool,  # noqa: FBT001  a column of the table
    attempts: int,
    hours: float,
    event: Event,
    counted: bool,  # noqa: FBT001
    behind: bool,  # noqa: FBT001
    peer: PeerHealth,
) -> None:
    """Row by row, on both sides of each limit; a delivery that is not delivered has a reason."""
    decision = decide(
        outcome,
        refusals=attempts,
        owed_for=timedelta(hours=hours),
        conflict=conflict,
        limits=LIMITS,
        error="the reason",
    )
    assert (decision.event, decision.counted, decision.behind, decision.peer) == (
        event,
        counted,
        behind,
        peer,
    )
    assert decision.refused == (outcome in {Outcome.REFUSED, Outcome.BROKEN, Outcome.LOST_FILE})
    assert bool(decision.reason) == (event is not Event.DELIVER)
    assert conflict or event is Event.DELIVER or "the reason" in decision.reason


def test_every_outcome_has_a_rule_and_every_meaning_an_outcome() -> None:
    """No status of a peer is without an outcome."""
    assert set(RULES) == set(Outcome)
    assert set(OUTCOME_OF) == set(Meaning)


@given(
    st.sampled_from(Outcome),
    st.integers(0, 10_000),
    st.timedeltas(timedelta(0), timedelta(days=99)),
    st.booleans(),
)
def test_every_decision_is_a_transition_from_in_flight(
    outcome: Outcome,
    attempts: int,
    owed_for: timedelta,
    conflict: bool,  # noqa: FBT001
) -> None:
    """The database allows every decision."""
    decision = decide(
        outcome, refusals=attempts, owed_for=owed_for, conflict=conflict, limits=LIMITS, error="e"
    )
    assert (State.IN_FLIGHT, decision.event) in TRANSITIONS
    assert decision.event is not Event.RETRY or TRANSITIONS[State.IN_FLIGHT, decision.event] is State.PENDING


@pytest.mark.parametrize(
    ("statuses", "meaning"),
    [
        ((0x0000, 0x0001, 0x0107, 0x0116, 0xB000, 0xB006, 0xB007, 0xBFFF), Meaning.STORED),
        ((0x0111,), Meaning.DUPLICATE_UID),
        ((0xA700, 0xA7FF, 0x0213, 0x0124), Meaning.NOT_NOW),
        ((0x0122,), Meaning.NEVER),
        ((0xA900, 0xA9FF, 0xC000, 0xCFFF, 0x0110, 0x0117, 0xFE00, 0xFFFF), Meaning.REFUSED),
    ],
)
def test_the_classes_of_statuses(statuses: tuple[int, ...], meaning: Meaning) -> None:
    """PS3.4 §B.2.3, Table B.2-1, and PS3.7 Annex C."""
    assert {meaning_of(status) for status in statuses} == {meaning}


# ---- backoff -----------------------------------------------------------------------------------------


@given(
    st.integers(-3, 100_000),
    st.timedeltas(timedelta(milliseconds=1), timedelta(days=7)),
    st.timedeltas(timedelta(milliseconds=1), timedelta(days=7)),
    st.floats(0, 1, exclude_max=True),
)
def test_a_delay_stays_within_its_bounds(
    attempt: int, first: timedelta, maximum: timedelta, dice: float
) -> None:
    """Between half and all of the doubled first delay, never above the maximum."""
    found = delay(attempt, first, maximum, lambda: dice)
    # timedelta's own arithmetic overflows where the doubled delay is beyond any maximum
    whole = min(first.total_seconds() * 2 ** min(max(attempt - 1, 0), 30), maximum.total_seconds())
    assert whole / 2 - 1e-5 <= found.total_seconds() <= whole + 1e-5
    assert found <= maximum


# ---- identifiers -------------------------------------------------------------------------------------


@given(st.one_of(st.text(), st.from_regex(r"[0-9./\\]{1,70}", fullmatch=True)))
def test_an_accepted_uid_is_a_plain_file_name(text: str) -> None:
    """G7: digits and dots, a digit first, bounded: no separator, no name of a parent folder."""
    if is_uid(text):
        assert set(text) <= set("0123456789.")
        assert text[0] != "."
        assert 0 < len(text) <= 64
        for name in file_names(text, "0" * 64):
            assert "/" not in name
            assert len(name) <= 64 + 1 + 12 + 4


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", ".1", "1/2", "1\n", "\uff11.2", "1" * 65, "1.2 ", "1.a", "1\x002"],
)
def test_wrong_uids(text: str) -> None:
    """G7: anything else than digits and dots is refused."""
    assert not is_uid(text)


@pytest.mark.parametrize("text", ["1.02", "1..2", "1.2.", "1." + "2" * 62])
def test_wrong_and_harmless_uids_are_accepted(text: str) -> None:
    """They violate PS3.5 §9.1; DCMTK and Orthanc accept them, and so do we."""
    assert is_uid(text)


def test_a_study_may_have_a_longer_uid_than_an_instance() -> None:
    """As long as a folder's name may be, and not longer."""
    assert is_uid("1." * 64, MAX_DATA_SET_UID_LENGTH)
    assert not is_uid("1." * 64)
    assert not is_uid("1." * 64 + "1", MAX_DATA_SET_UID_LENGTH)


@given(st.text())
def test_an_accepted_ae_title_is_printable_and_short(text: str) -> None:
    """G7: at most 16 of printable ASCII, no backslash, no padding."""
    if is_ae_title(text):
        assert text == text.strip()
        assert len(text) <= 16
        assert all(" " <= c <= "~" and c != "\\" for c in text)


@given(st.text(max_size=300), st.integers(1, 100))
def test_printable_is_one_bounded_line(text: str, limit: int) -> None:
    """G7: no control character of a peer reaches a terminal or ends a log line."""
    made = printable(text, limit)
    assert len(made) <= limit + 1
    assert all(" " <= c <= "~" or c == "…" for c in made)


# ---- routing and matching ------------------------------------------------------------------------------


def test_a_result_never_goes_to_a_worker() -> None:
    """The loop guard, in every mode."""
    for targets in (Targets("ORTHANC"), MANY):
        for mode in Mode:
            assert all(one.route.is_archive for one in targets.of(Kind.RESULT, mode))


PACS, VNA = Target(Route.PACS, "ORTHANC"), Target(Route.ARCHIVES, "VNA")
RESEARCH = Target(Route.ARCHIVES, "RES")
CHEST, MR = Target(Route.WORKERS, "chest-ct"), Target(Route.WORKERS, "any-mr")
MANY = Targets("ORTHANC", ("VNA", "RES"), frozenset({"RES"}), ("chest-ct", "any-mr"))


def test_results_go_to_the_archives_that_take_them() -> None:
    """`results: false` of an archive."""
    assert MANY.of(Kind.RESULT, Mode.WORKERS_ONLY) == (PACS, VNA)
    assert MANY.of_results == (PACS, VNA)


def test_an_archive_is_not_owed_what_it_sends() -> None:
    """The PACS gets once what the edge did not know."""
    assert MANY.of(Kind.ORIGINAL, Mode.PARALLEL, sent_by="VNA") == (PACS, RESEARCH, CHEST, MR)
    assert MANY.of(Kind.ORIGINAL, Mode.PARALLEL, sent_by="ORTHANC") == (PACS, VNA, RESEARCH, CHEST, MR)
    assert MANY.of(Kind.RESULT, Mode.PARALLEL, sent_by="VNA") == (PACS,)


def test_each_target_has_a_queue_of_its_route() -> None:
    """The seed's two keep their names."""
    assert [one.queue for one in Targets("ORTHANC").all] == ["pacs", "workers"]
    assert [one.queue for one in MANY.all] == [
        "pacs", "archives.VNA", "archives.RES", "workers.chest-ct", "workers.any-mr",
    ]  # fmt: skip
    assert all(route_of_queue(one.queue) is one.route for one in MANY.all)
    assert [route_of_queue(name) for name in ("sweep", "pacs.x", "workersx", "x.pacs")] == [None] * 4


def test_originals_go_where_the_mode_says() -> None:
    """`forwarder.mode`."""
    assert MANY.of(Kind.ORIGINAL, Mode.PARALLEL) == (PACS, VNA, RESEARCH, CHEST, MR)
    assert MANY.of(Kind.ORIGINAL, Mode.PACS_ONLY) == (PACS, VNA, RESEARCH)
    assert MANY.of(Kind.ORIGINAL, Mode.WORKERS_ONLY) == (CHEST, MR)
    assert Targets("ORTHANC").of(Kind.ORIGINAL, Mode.PARALLEL) == (PACS, Target(Route.WORKERS, "default"))


def test_the_order_in_a_queue() -> None:
    """G5: urgent, originals, results, and last what broke an association."""
    order = [priority_for(Kind.ORIGINAL, urgent=True), priority_for(Kind.ORIGINAL, urgent=False)]
    order += [priority_for(Kind.RESULT, urgent=False), BEHIND]
    assert order == sorted(set(order))
    assert set(PRIORITY.values()) == set(order[:3])


@pytest.mark.parametrize(
    ("origin", "description", "expected"),
    [
        (Origin.WORKER, "AXIAL", True),
        (Origin.SENDER, "AI_RESULT ", True),
        (Origin.SENDER, "AXIAL", False),
        (Origin.ARCHIVE, "", False),
    ],
)
def test_what_counts_as_a_result(origin: Origin, description: str, *, expected: bool) -> None:
    """An instance from a worker, or by its Series Description."""
    assert is_result(origin, description, result_description="AI_RESULT") is expected


CANDIDATES = st.lists(
    st.builds(
        Candidate,
        st.integers(1, 9),
        st.just(()) | st.integers(1, 9).map(lambda one: (one,)) | st.just((8, 9)),
        st.sampled_from(["APP01", None]),
    )
)


@given(CANDIDATES, CANDIDATES)
def test_matching(named: list[Candidate], in_study: list[Candidate]) -> None:
    """Known references decide; otherwise the study, which satisfies one expectation or none."""
    found = match(named, in_study)
    if named:
        assert found.correlation is Correlation.REFERENCES
    else:
        owed = {candidate.expectation_ids for candidate in in_study} - {()}
        assert (found.correlation is Correlation.STUDY) == (len(owed) == 1)
        assert (found.correlation is Correlation.UNMATCHED) == (not in_study)
        assert found.expectation_ids in {(), *owed}
    assert len(set(found.source_instance_ids)) == len(found.source_instance_ids)
    assert found.correlation is not Correlation.UNMATCHED or found.source_instance_ids == ()
