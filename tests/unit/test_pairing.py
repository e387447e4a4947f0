"""Which spool and database belong together: known, new, or unknown for a reason."""

from datetime import UTC, datetime, timedelta
from itertools import product
from uuid import UUID

import pytest

from gateway.domain.pairing import DatabaseMarks, Holdings, Pair, SpoolMarks, pair_of, sentence

A, B = UUID(int=1), UUID(int=2)
NOW = datetime(2026, 11, 28, 10, tzinfo=UTC)
BEFORE = NOW - timedelta(hours=1)

NOTHING = Holdings(has_files=False, has_instances=False, rows_have_files=False)
FILES = Holdings(has_files=True, has_instances=False, rows_have_files=False)
ROWS = Holdings(has_files=False, has_instances=True, rows_have_files=False)
OTHER_FILES = Holdings(has_files=True, has_instances=True, rows_have_files=False)
SAME_FILES = Holdings(has_files=True, has_instances=True, rows_have_files=True)

UNNAMED_SPOOL, UNNAMED_DATABASE = SpoolMarks(None), DatabaseMarks(None)


@pytest.mark.parametrize(
    ("spool", "database", "pair"),
    [
        (SpoolMarks(A, 1, NOW), DatabaseMarks(A, 1, NOW), Pair.KNOWN),
        (SpoolMarks(A, 1, BEFORE), DatabaseMarks(A, 1, NOW), Pair.KNOWN),
        (SpoolMarks(A, 1), DatabaseMarks(A, 1, NOW), Pair.KNOWN),
        (SpoolMarks(A, 1, NOW), DatabaseMarks(A, 1, BEFORE), Pair.OLD_DATABASE),
        (SpoolMarks(A, 2, NOW), DatabaseMarks(A, 1, NOW), Pair.RESET),
        (SpoolMarks(A, 1, NOW), DatabaseMarks(A, 2, NOW), Pair.OLD_SPOOL),
        (SpoolMarks(A, 1, NOW), DatabaseMarks(B, 1, NOW), Pair.OTHER_NAME),
    ],
)
def test_two_names_decide_whatever_both_hold(spool: SpoolMarks, database: DatabaseMarks, pair: Pair) -> None:
    """Names, epochs and time marks decide."""
    for holdings in (NOTHING, FILES, ROWS, OTHER_FILES, SAME_FILES):
        assert pair_of(spool, database, holdings) is pair


@pytest.mark.parametrize(
    ("holdings", "pair"),
    [
        (NOTHING, Pair.NEW),
        (FILES, Pair.EMPTY_DATABASE),
        (ROWS, Pair.NOT_MOUNTED),
        (OTHER_FILES, Pair.OTHER_SPOOL),
        (SAME_FILES, Pair.NEW),
    ],
)
def test_without_names_what_both_hold_decides(holdings: Holdings, pair: Pair) -> None:
    """At the first start and at an upgrade; also if a crash left the name in the spool only."""
    assert pair_of(UNNAMED_SPOOL, UNNAMED_DATABASE, holdings) is pair
    assert pair_of(SpoolMarks(A, 1), UNNAMED_DATABASE, holdings) is pair


@pytest.mark.parametrize(
    ("holdings", "pair"),
    [
        (NOTHING, Pair.EMPTY_DATABASE),
        (FILES, Pair.EMPTY_DATABASE),
        (ROWS, Pair.OLD_DATABASE),
        (SAME_FILES, Pair.OLD_DATABASE),
    ],
)
def test_a_spool_that_was_in_use_never_pairs_with_a_database_without_a_name(
    holdings: Holdings, pair: Pair
) -> None:
    """Also if the spool holds no file at the moment."""
    assert pair_of(SpoolMarks(A, 1, NOW), UNNAMED_DATABASE, holdings) is pair


@pytest.mark.parametrize("holdings", [NOTHING, FILES, ROWS, OTHER_FILES, SAME_FILES])
def test_a_database_with_a_name_never_pairs_with_a_folder_without_one(holdings: Holdings) -> None:
    """Also if the database keeps no instance: the disk may just not be mounted."""
    pair = pair_of(UNNAMED_SPOOL, DatabaseMarks(A, 1, NOW), holdings)
    assert pair is (Pair.NO_NAME if holdings.has_files else Pair.NOT_MOUNTED)


def test_every_sentence_names_the_folder_and_a_command() -> None:
    """All but that of a new pair, which needs no operator, say what to type."""
    spools = (UNNAMED_SPOOL, SpoolMarks(A, 1), SpoolMarks(A, 1, NOW), SpoolMarks(B, 2, NOW), SpoolMarks(B, 1))
    databases = (
        UNNAMED_DATABASE,
        DatabaseMarks(A, 1, BEFORE),
        DatabaseMarks(B, 1, NOW),
        DatabaseMarks(B, 3, NOW),
    )
    holdings = (NOTHING, FILES, ROWS, OTHER_FILES, SAME_FILES)
    pairs = set()
    for spool, database, held in product(spools, databases, holdings):
        pair = pair_of(spool, database, held)
        pairs.add(pair)
        if pair is not Pair.KNOWN:
            text = sentence(pair, "/data", spool, database)
            assert "/data" in text
            assert "`mini-pacs " in text or pair is Pair.NEW
    assert pairs == set(Pair)
