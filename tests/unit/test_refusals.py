"""Refusals: every reason has its words, memory is bounded, and nothing a peer writes gets through raw."""

from collections import Counter
from contextlib import contextmanager
from typing import Any, cast

import pytest

from gateway.database.counting import Counting
from gateway.database.pool import Database
from gateway.database.tables import refusals as table
from gateway.database.tables.refusals import RefusalRow, RefusedInstance
from gateway.domain.refusal import KIND_OF, OTHER, Reason, Refused
from gateway.domain.refusal_words import meaning, remedy
from gateway.errors import DatabaseUnavailableError, OutcomeUnknownError
from gateway.receive import refusals
from gateway.receive.refusals import Refusals


class Written:
    """Stands for PostgreSQL: what was written, or the error of the next write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[RefusalRow] = []
        self.instances: list[RefusedInstance] = []
        self.error: Exception | None = None
        monkeypatch.setattr(table, "add", self._add)

    def _add(self, _: object, rows: list[RefusalRow], instances: list[RefusedInstance]) -> None:
        if self.error is not None:
            raise self.error
        self.rows += rows
        self.instances += instances

    @contextmanager
    def transaction(self) -> Any:
        """Lend no session."""
        yield None

    @property
    def database(self) -> Database:
        """This, as what `flush` takes."""
        return cast("Database", self)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    """Return an empty table."""
    return Written(monkeypatch)


def test_every_reason_has_a_kind_a_meaning_and_a_remedy() -> None:
    """No remedy where nothing has to be changed: an idle association that was closed."""
    for reason in Reason:
        assert reason in KIND_OF
        assert meaning(reason)
        text = remedy(Refused(reason, "CT2", "OTHER", "10.1.2.3"), edge_ae_title="MINI_EDGE")
        assert (text == "") == (reason is Reason.IDLE)
        assert "{" not in text
    wrong = Refused(Reason.CALLED_AE_TITLE, "CT2", "OLD", "10.1.2.3")
    assert remedy(wrong, edge_ae_title="MINI_EDGE") == "let the sender call MINI_EDGE, not OLD"


def test_the_entry_for_the_allowlist_names_title_and_address() -> None:
    """There is none for what is not told apart, and none where an entry would not help."""
    assert Refused(Reason.CALLING_AE_TITLE, "CT2", "E", "10.1.2.3").allowlist_entry == "CT2@10.1.2.3"
    assert Refused(Reason.CALLING_AE_TITLE, OTHER, OTHER, OTHER).allowlist_entry is None
    assert Refused(Reason.SOP_CLASS, "CT2", "E", "10.1.2.3").allowlist_entry is None


def test_what_a_peer_writes_is_made_printable_and_cut(written: Written) -> None:
    """G7: no escape sequence, no line break and no long text reaches a row."""
    memory = Refusals(Counting())
    memory.note(
        Reason.CALLING_AE_TITLE,
        remote_address="10.0.0.1",
        calling_ae_title="\x1b[31mA\n" + "B" * 100,
        called_ae_title="\x00",
        detail="x" * 10_000,
        uid="../../etc",
    )
    memory.flush(written.database)
    [row] = written.rows
    assert row.calling_ae_title == "?[31mA?BBBBBBBBB…"
    assert row.called_ae_title == "?"
    assert len(row.detail or "") <= refusals.MAX_DETAIL + 1
    assert row.last_uid is None


def test_peers_beyond_the_limit_become_other(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """G7: a stranger that changes its name and address each time fills neither memory nor the table."""
    monkeypatch.setattr(refusals, "MAX_PEERS", 3)
    memory = Refusals(Counting())
    for number in range(50):
        memory.note(Reason.CALLING_AE_TITLE, remote_address=f"10.0.0.{number}", calling_ae_title=f"A{number}")
    memory.note(Reason.CALLING_AE_TITLE, remote_address="10.0.0.1", calling_ae_title="A1")
    memory.flush(written.database)
    counts = Counter({row.calling_ae_title: row.count for row in written.rows})
    # Two minutes may have been touched.
    assert counts.total() == 51
    assert counts[OTHER] >= 44
    assert len(counts) <= 7


def test_the_limit_holds_over_the_flushes_of_a_minute(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told apart is counted by the minute, not from flush to flush."""
    monkeypatch.setattr(refusals, "MAX_PEERS", 3)
    memory = Refusals(Counting())
    for number in range(30):
        memory.note(Reason.CALLING_AE_TITLE, remote_address=f"10.0.0.{number}", calling_ae_title=f"A{number}")
        memory.flush(written.database)
    assert len({row.calling_ae_title for row in written.rows}) <= 7


def test_what_was_not_written_waits_and_is_counted_once(written: Written) -> None:
    """PostgreSQL is away: the next flush has it. The answer of a commit is lost: it is not written again."""
    memory = Refusals(Counting())

    def note() -> None:
        memory.note(
            Reason.CONTRADICTION,
            remote_address="10.0.0.1",
            calling_ae_title="CT",
            status=0xA900,
            uid="1.2.3",
            study_instance_uid="",
        )

    note()
    written.error = DatabaseUnavailableError("away")
    with pytest.raises(DatabaseUnavailableError):
        memory.flush(written.database)
    note()
    written.error = None
    memory.flush(written.database)
    assert sum(row.count for row in written.rows) == 2
    [instance] = written.instances
    assert (instance.sop_instance_uid, instance.count) == ("1.2.3", 2)
    note()
    written.error = OutcomeUnknownError("lost")
    with pytest.raises(OutcomeUnknownError):
        memory.flush(written.database)
    written.error = None
    memory.flush(written.database)
    assert sum(row.count for row in written.rows) == 2


def test_refused_instances_in_memory_are_bounded(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit only their number is counted."""
    monkeypatch.setattr(refusals, "MAX_INSTANCES", 2)
    memory = Refusals(Counting())
    for number in range(5):
        memory.note(
            Reason.CONTRADICTION,
            remote_address="10.0.0.1",
            status=0xA900,
            uid=f"1.2.{number}",
            study_instance_uid="1.2",
        )
    memory.flush(written.database)
    assert len(written.instances) == 2
    assert sum(row.count for row in written.rows) == 5
