"""The ledger of the chaos run: it closes only if every acknowledged instance is accounted for."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from proof.chaos.ledger import (
    GIVEN_UP,
    MISSING,
    NOT_SENT,
    OLDER,
    UNWANTED,
    WORKERS,
    Debt,
    Evidence,
    Row,
    Version,
    draw,
)

ONE: Version = ("1.2.3", "aa")
OTHER: Version = ("1.2.3", "bb")
RESULT: Version = ("2.25.1", "cc")
SECOND_RESULT: Version = ("2.25.1", "dd")
DELIVERED = Debt("delivered")


def row(version: Version, *, file: bool = True, **debts: Debt) -> Row:
    """Return an instance as a row of the database."""
    return Row(version, debts, file=file)


def evidence(
    acknowledged: Mapping[Version, bool],
    *rows: Row,
    taken: tuple[Version, ...] = (),
    worked: tuple[Version, ...] = (),
    results: tuple[Version, ...] = (),
    altered: tuple[Version, ...] = (),
) -> Evidence:
    """Return the evidence of all sources; `acknowledged` says whether an instance is owed to a worker."""
    return Evidence(
        {version: (WORKERS,) if owed else () for version, owed in acknowledged.items()},
        frozenset(results),
        rows,
        frozenset(taken),
        {WORKERS: frozenset(worked)},
        altered=altered,
    )


def test_an_instance_in_the_journal_of_the_pacs_is_delivered() -> None:
    """With a row, or purged: the journal of the PACS counts."""
    for rows in ((row(ONE, pacs=DELIVERED),), ()):
        ledger = draw(evidence({ONE: False}, *rows, taken=(ONE,)))
        assert ledger.states == {"pacs": {"delivered": 1}}
        assert ledger.closes


def test_an_instance_without_row_and_without_journal_entry_is_missing() -> None:
    """The ledger names its UID."""
    ledger = draw(evidence({ONE: True}))
    assert not ledger.closes
    assert ledger.missing() == 2
    assert {(d.what, d.sop_instance_uid, d.route) for d in ledger.deviations} == {
        (MISSING, ONE[0], "pacs"),
        (MISSING, ONE[0], "workers"),
    }


def test_delivered_by_the_row_alone_is_missing() -> None:
    """The database alone is no evidence that the PACS has it."""
    assert draw(evidence({ONE: False}, row(ONE, pacs=DELIVERED))).missing() == 1


def test_other_bytes_under_the_same_uid_do_not_count() -> None:
    """By the digest: the PACS has one version, the other was acknowledged too."""
    ledger = draw(evidence({ONE: False, OTHER: False}, taken=(ONE,)))
    assert ledger.states["pacs"] == {"delivered": 1, MISSING: 1}
    assert draw(evidence({ONE: False, OTHER: False}, taken=(ONE, OTHER))).closes


@pytest.mark.parametrize("state", ["pending", "in_flight", "dead", "cancelled"])
def test_an_open_delivery_needs_a_reason_and_its_file(state: str) -> None:
    """G2: without its file it is lost."""
    debt = Debt(state, "why")
    ledger = draw(evidence({ONE: False}, row(ONE, pacs=debt)))
    assert ledger.closes
    assert [(d.what, d.reason) for d in ledger.deviations] == [(state, "why")]
    assert not draw(evidence({ONE: False}, row(ONE, file=False, pacs=debt))).closes


def test_an_original_without_a_delivery_on_a_route_is_missing_there() -> None:
    """An original has a delivery to a worker too."""
    ledger = draw(evidence({ONE: True}, row(ONE, pacs=DELIVERED), taken=(ONE,)))
    assert [(d.what, d.route) for d in ledger.deviations] == [(MISSING, "workers")]


def test_a_worker_that_never_answered_is_given_up_and_not_missing() -> None:
    """The row says so, after max_redispatch; without that it is missing."""
    for given_up, state in ((True, GIVEN_UP), (False, MISSING)):
        kept = row(ONE, pacs=DELIVERED, workers=Debt("delivered", None, given_up))
        ledger = draw(evidence({ONE: True}, kept, taken=(ONE,)))
        assert ledger.states["workers"] == {state: 1}


def test_a_worker_has_only_the_version_in_its_journal() -> None:
    """By the digest: both versions of a conflict must arrive, and one does not replace the other."""
    rows = [row(version, pacs=DELIVERED, workers=DELIVERED) for version in (ONE, OTHER)]
    owed = {ONE: True, OTHER: True}
    ledger = draw(evidence(owed, *rows, taken=(ONE, OTHER), worked=(ONE,)))
    assert ledger.states["workers"] == {"delivered": 1, MISSING: 1}
    assert [(d.sop_instance_uid, d.digest) for d in ledger.deviations] == [OTHER]
    assert not ledger.closes
    assert not draw(evidence(owed, taken=(ONE, OTHER), worked=(ONE,))).closes  # purged is no excuse
    assert draw(evidence(owed, *rows, taken=(ONE, OTHER), worked=(ONE, OTHER))).closes


def test_a_version_swallowed_by_a_fault_is_shown_if_another_version_arrived() -> None:
    """A result names its source by UID alone; without that version, or without the fault, it is missing."""
    both = evidence({ONE: True, OTHER: True}, taken=(ONE, OTHER), worked=(ONE,))
    ledger = draw(replace(both, not_sent=frozenset({OTHER})))
    assert ledger.states["workers"] == {"delivered": 1, NOT_SENT: 1}
    assert [(d.what, d.digest) for d in ledger.deviations] == [(NOT_SENT, OTHER[1])]
    assert ledger.closes
    assert not draw(both).closes
    assert not draw(replace(both, not_sent=frozenset({OTHER}), worked={WORKERS: frozenset()})).closes
    waiting = row(OTHER, file=False, pacs=DELIVERED, workers=Debt("pending"))
    assert not draw(replace(both, not_sent=frozenset({OTHER}), rows=(waiting,))).closes


def test_a_pacs_that_ends_with_the_older_version_is_a_deviation() -> None:
    """By the order of senders and PACS; a newer version that is pending or dead is shown by its row."""
    owed = {ONE: False, OTHER: False}
    both = replace(evidence(owed, taken=(ONE, OTHER)), sent=(ONE, OTHER))
    older = draw(replace(both, came=(OTHER, ONE)))
    assert [(d.what, d.digest) for d in older.deviations] == [(OLDER, ONE[1])]
    assert not older.closes
    assert draw(replace(both, came=(ONE, OTHER))).closes
    assert draw(
        replace(both, came=(OTHER, ONE), sent=(ONE, OTHER, ONE))
    ).closes  # sent again, and so the newest
    dead = row(OTHER, pacs=Debt("dead", "why"))
    assert OLDER not in {d.what for d in draw(replace(both, came=(OTHER, ONE), rows=(dead,))).deviations}


def test_an_acknowledged_result_must_reach_the_pacs() -> None:
    """By the digest that the worker sent."""
    assert draw(evidence({}, results=(RESULT,), taken=(RESULT,))).closes
    assert draw(evidence({}, row(RESULT, pacs=Debt("pending")), results=(RESULT,))).closes
    assert not draw(evidence({}, results=(RESULT,))).closes
    assert not draw(evidence({}, row(RESULT, pacs=DELIVERED), results=(RESULT,))).closes


def test_each_version_of_a_result_counts() -> None:
    """Results acknowledged to a worker, and results that only a row has."""
    first, second = (row(version, file=False, pacs=DELIVERED) for version in (RESULT, SECOND_RESULT))
    for results in ((RESULT,), (RESULT, SECOND_RESULT)):
        ledger = draw(evidence({}, first, second, results=results, taken=(RESULT,)))
        assert ledger.missing() == 1
        assert [d.digest for d in ledger.deviations] == [SECOND_RESULT[1]]


def test_an_instance_whose_success_did_not_arrive_counts_apart() -> None:
    """Its sender was cut off before the answer; its delivery must be right as well."""
    ledger = draw(evidence({}, row(ONE, pacs=DELIVERED)))
    assert ledger.states == {"pacs (unheard)": {MISSING: 1}}
    assert not ledger.closes


def test_altered_bytes_keep_the_ledger_open() -> None:
    """G3: the PACS got bytes that no sender sent."""
    assert not draw(evidence({ONE: False}, taken=(ONE, OTHER), altered=(OTHER,))).closes


def test_an_archive_beside_the_pacs_has_a_ledger_of_its_own() -> None:
    """It needs its own journal entry, for originals and results; what the PACS has does not count for it."""
    both = row(ONE, pacs=DELIVERED, archives=DELIVERED)
    result = row(RESULT, pacs=DELIVERED, archives=DELIVERED)
    known = evidence({ONE: False}, both, result, taken=(ONE, RESULT), results=(RESULT,))
    assert draw(known).closes, "no archive beside the PACS"
    closed = draw(replace(known, archived=frozenset({ONE, RESULT})))
    assert closed.closes
    assert closed.states["archives"] == closed.states["archives (results)"] == {"delivered": 1}
    lacking = draw(replace(known, archived=frozenset({RESULT})))
    assert [(d.what, d.route) for d in lacking.deviations] == [(MISSING, "archives")]


def test_an_archive_that_ends_with_an_older_version_is_a_deviation() -> None:
    """As for the PACS, by its own order."""
    rows = [row(version, pacs=DELIVERED, archives=DELIVERED) for version in (ONE, OTHER)]
    known = replace(
        evidence({ONE: False, OTHER: False}, *rows, taken=(ONE, OTHER)),
        sent=(ONE, OTHER),
        came=(ONE, OTHER),
        archived=frozenset({ONE, OTHER}),
    )
    assert draw(replace(known, came_to_archive=(ONE, OTHER))).closes
    [deviation] = draw(replace(known, came_to_archive=(OTHER, ONE))).deviations
    assert (deviation.what, deviation.route) == (OLDER, "archives")


CHEST_CT, ANY_MR = "workers.chest-ct", "workers.any-mr"


def test_each_application_needs_its_own_journal_entry() -> None:
    """What a worker of another application has does not count, and nobody may have what no rule sends."""
    debts = {"pacs": DELIVERED, CHEST_CT: DELIVERED}
    known = Evidence(
        {ONE: (CHEST_CT,)},
        frozenset(),
        (Row(ONE, debts, file=True),),
        frozenset({ONE}),
        {CHEST_CT: frozenset({ONE}), ANY_MR: frozenset()},
    )
    closed = draw(known)
    assert closed.closes
    assert closed.states == {"pacs": {"delivered": 1}, CHEST_CT: {"delivered": 1}}
    astray = draw(replace(known, worked={CHEST_CT: frozenset(), ANY_MR: frozenset({ONE})}))
    assert [(d.what, d.route) for d in astray.deviations] == [(MISSING, CHEST_CT), (UNWANTED, ANY_MR)]
    assert not astray.closes


def test_what_the_rules_send_nowhere_may_be_nowhere_else() -> None:
    """It is kept or purged; an archive that has it is a deviation."""
    known = replace(evidence({ONE: False}), nowhere=frozenset({ONE}))
    assert draw(known).states == {"nowhere": {"purged": 1}}
    kept = draw(replace(known, rows=(row(ONE),)))
    assert kept.states == {"nowhere": {"kept": 1}}
    assert kept.closes
    [deviation] = draw(replace(known, taken=frozenset({ONE}))).deviations
    assert (deviation.what, deviation.route) == (UNWANTED, "pacs")


def test_a_missing_instance_of_a_unit_is_excused_only_by_a_hang() -> None:
    """The result of another instance of its unit answered for it."""
    debts = {"pacs": DELIVERED, CHEST_CT: DELIVERED}
    known = Evidence(
        {ONE: (CHEST_CT,)},
        frozenset(),
        (Row(ONE, debts, file=True),),
        frozenset({ONE}),
        {CHEST_CT: frozenset()},
    )
    assert draw(known).missing() == 1
    assert draw(replace(known, not_sent_in_unit=frozenset({ONE}))).states[CHEST_CT] == {NOT_SENT: 1}
