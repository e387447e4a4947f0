"""`mini-pacs studies` and lists in pages: newest first, each row once, none left out."""

import json
from typing import Any

import pytest
from support.prepared_instances import PreparedInstances
from typer.testing import CliRunner, Result

from cli.documents import Schema
from cli.exit_codes import ExitCode
from cli.main import build
from gateway.database.tables import studies
from gateway.domain.delivery import State
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route

MANY = """
    INSERT INTO instances (sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid,
        transfer_syntax_uid, sha256, data_set_size, calling_ae_title, called_ae_title, remote_address, kind,
        file_name, received_at)
    SELECT '1.9.' || n, '1.9.' || n / 50, '1.9', '1.9', '1.9', sha256(n::text::bytea), 1, 'CT1', 'MINI_EDGE',
        '10.0.0.1', 'original', n || '.dcm', now() - n * interval '1 s'
    FROM generate_series(1, 20000) AS n;
    INSERT INTO deliveries (instance_id, route, state, priority, next_attempt_at)
    SELECT id, 'pacs', 'delivered', 4, NULL FROM instances;
    ANALYZE instances;
    ANALYZE deliveries"""
"""400 studies of 50 instances."""
SEQUENTIAL = """
    SELECT relname, seq_scan FROM pg_stat_user_tables
    WHERE relname IN ('instances', 'deliveries') ORDER BY relname"""
LONG = "1.2.826.0.1.3680043.8.498.123456789012345678901234567"


def sequential(kept: PreparedInstances) -> list[tuple[Any, ...]]:
    """Return how often each table was scanned sequentially, this connection included."""
    kept.run("SELECT pg_stat_force_next_flush()")
    return kept.rows(SEQUENTIAL)


def run(*words: str | int, columns: int = 200) -> Result:
    """Run one command in this process, on a screen of that many columns."""
    runner = CliRunner(env={"COLUMNS": str(columns)})
    return runner.invoke(build(str(words[0])), [str(word) for word in words])


def page(*words: str | int) -> dict[str, Any]:
    """Return a list as JSON."""
    result = run(*words, "--json")
    assert result.exit_code == ExitCode.OK, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    assert list(document) == ["schema", "items", "next"]
    return document


def pages(*words: str | int, limit: int) -> list[dict[str, Any]]:
    """Return the items of every page, one after the other."""
    option = "--last" if words[0] == "studies" else "--limit"
    found = page(*words, option, limit)
    items = list(found["items"])
    while found["next"] is not None:
        assert len(found["items"]) == limit
        found = page(*words, option, limit, "--after", found["next"])
        items += found["items"]
    return items


def test_a_study_is_shown_with_its_counts(kept: PreparedInstances) -> None:
    """First and last reception, instances, results, and the states on both routes."""
    kept.forward(kept.receive(1))
    kept.forward(kept.receive(2), State.DEAD, outcome=Outcome.NEVER, status=None, error="x")
    source = kept.receive(3)
    kept.settle(kept.claim_for_worker(kept.delivery(source, Route.WORKERS)), Route.WORKERS, State.DELIVERED)
    kept.result(4, 3, worker="APP01")
    [study] = page("studies")["items"]
    assert (study["instances"], study["results"], study["conflicts"]) == (3, 1, 0)
    assert study["calling_ae_titles"] == ["ORTHANC"]
    assert study["first_received_at"] < study["last_received_at"]
    assert study["deliveries"] == {
        "pacs": {"pending": 2, "delivered": 1, "dead": 1},
        "workers": {"pending": 2, "delivered": 1},
    }
    shown = run("studies").stdout
    assert "1/2/1" in shown
    assert "1/2/0" in shown


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("step", [1, 2, 5, 2000])
def test_every_study_is_on_one_page_newest_first(
    kept: PreparedInstances, monkeypatch: pytest.MonkeyPatch, limit: int, step: int
) -> None:
    """This includes studies whose instances arrived alternately, at the same moment, or late."""
    monkeypatch.setattr(studies, "STEP", step)
    for number, study in enumerate([1, 2, 1, 3, 4, 2, 5, 6, 5, 7, 1], 1):
        kept.receive(number, study=f"1.2.{study}")
    kept.run("UPDATE instances SET received_at = timestamptz '2026-01-01' WHERE id IN (4, 5)")
    found = [study["study_instance_uid"] for study in pages("studies", limit=limit)]
    assert found == [f"1.2.{study}" for study in (1, 7, 5, 6, 2, 4, 3)]


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_every_delivery_is_on_one_page_newest_first(kept: PreparedInstances, limit: int) -> None:
    """It also holds with a selection; a delivery added between two pages is not on a later page."""
    for number in range(1, 6):
        kept.receive(number)
    found = [delivery["delivery_id"] for delivery in pages("deliveries", "list", limit=limit)]
    assert found == sorted(found, reverse=True)
    assert len(found) == 10
    to_pacs = pages("deliveries", "list", "--route", "pacs", limit=limit)
    assert [delivery["route"] for delivery in to_pacs] == ["pacs"] * 5
    first = page("deliveries", "list", "--limit", 2)
    kept.receive(6)
    second = page("deliveries", "list", "--limit", 100, "--after", first["next"])
    assert [d["delivery_id"] for d in first["items"] + second["items"]] == found


def test_a_screen_of_80_columns_has_one_line_for_each_row(kept: PreparedInstances) -> None:
    """UIDs are cut at the front, reasons at the end; no line is wider than the screen."""
    for number in range(1, 4):
        kept.receive(number, study=LONG)
    reason = "ORTHANC refused it with 0xA900, since the data set does not match its SOP Class. " * 3
    kept.forward(kept.receive(4, study=LONG), State.DEAD, outcome=Outcome.NEVER, status=None, error=reason)
    kept.run("UPDATE instances SET received_at = timestamptz '2026-01-01' WHERE id = 1")
    for words, count in ((("deliveries", "list"), 8), (("studies",), 1)):
        lines = run(*words, columns=80).stdout.splitlines()
        assert len(lines) == 2 + count
        assert max(map(len, lines)) <= 80
    rows = run("deliveries", "list", "--route", "pacs", columns=80).stdout.splitlines()[2:]
    assert [row.split("…")[1].split()[0][-4:] for row in rows] == [f"67.{number}" for number in (4, 3, 2, 1)]
    wide = run("deliveries", "list", columns=600).stdout
    assert f"{LONG}.1" in wide
    assert reason.strip() in wide
    delivery_id = page("deliveries", "list", "--state", "dead")["items"][0]["delivery_id"]
    assert f"{LONG}.4" in run("deliveries", "show", delivery_id, columns=200).stdout


def test_screens_name_the_time_zone_of_their_times(kept: PreparedInstances) -> None:
    """Once, in a title, in the same form everywhere."""
    kept.receive(1)
    [delivery] = page("deliveries", "list", "--route", "pacs")["items"]
    screens = (
        ("status",),
        ("status", "--study", "1.2.3"),
        ("studies",),
        ("deliveries", "list"),
        ("deliveries", "show", delivery["delivery_id"]),
        ("destinations", "list"),
        ("queue",),
    )
    for words in screens:
        assert "(times are UTC" in run(*words).stdout, words
    assert delivery["owed_since"].endswith("+00:00")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("status", "--study", "9.9"), "no instance of study 9.9 is kept"),
        (("deliveries", "list", "--study", "9.9"), "no instance of study 9.9 is kept"),
        (("deliveries", "list", "--delivery", 99), "there is no delivery 99"),
        (("deliveries", "show", 99), "there is no delivery 99"),
        (("deliveries", "retry", "--delivery", 99), "there is no delivery 99"),
        (("deliveries", "retry", "--study", "9.9"), "no instance of study 9.9 is kept"),
        (("deliveries", "resend", "--study", "9.9"), "no instance of study 9.9 is kept"),
        (("deliveries", "cancel", "--delivery", 99, "--yes"), "there is no delivery 99"),
    ],
)
def test_an_unknown_study_or_delivery_is_exit_code_1(
    kept: PreparedInstances, words: tuple[str | int, ...], sentence: str
) -> None:
    """The error is one sentence, and no question is asked; with --json, too."""
    kept.receive(1)
    told = run(*words)
    assert told.exit_code == ExitCode.REFUSED
    assert sentence in told.stderr
    document = json.loads(run(*words, "--json").stdout)
    assert document["schema"] == Schema.ERROR
    assert sentence in document["error"]


def test_a_known_study_without_a_match_is_no_error(kept: PreparedInstances) -> None:
    """The list is empty: none of its deliveries is dead."""
    kept.receive(1)
    found = run("deliveries", "list", "--study", "1.2.3", "--state", "dead")
    assert found.exit_code == ExitCode.OK
    assert "No delivery matches." in found.stdout


@pytest.mark.parametrize("token", ["", "1", "2026-13-01T00:00:00+00:00/1", "2026-01-01T00:00:00/1", "x/y"])
def test_an_invalid_next_is_a_usage_error(kept: PreparedInstances, token: str) -> None:
    """The message says what is expected."""
    assert run("studies", "--after", token).exit_code == ExitCode.USAGE
    assert run("deliveries", "list", "--after", 1 << 63).exit_code == ExitCode.USAGE
    del kept


def test_empty_lists_say_that_they_are_empty(kept: PreparedInstances) -> None:
    """An empty list is no error."""
    assert run("studies").stdout == "No study is kept.\n"
    assert page("studies") == {"schema": "mini-pacs/studies/1", "items": [], "next": None}
    assert page("deliveries", "list")["items"] == []
    del kept


def test_the_cost_of_a_page_does_not_grow_with_the_number_of_rows(
    kept: PreparedInstances, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No statement scans a whole table."""
    monkeypatch.setattr(studies, "STEP", 100)  # so small that a page reads a small part of the table
    kept.run(MANY)
    before = sequential(kept)
    with kept.database.statement() as session:
        found, after = studies.page(session, last=3, after=None)
        again, _ = studies.page(session, last=3, after=after)
    assert [row.study_instance_uid for row in (*found, *again)] == [f"1.9.{n}" for n in range(6)]
    assert sequential(kept) == before


@pytest.mark.parametrize("study", ["1." + "3" * 126, "1.2.826.", "1..2"])
def test_a_study_whose_uid_is_against_the_standard_is_found(kept: PreparedInstances, study: str) -> None:
    """Such UIDs are accepted, so every command takes them; one that is too long is refused with the limit."""
    kept.receive(1)
    kept.run(f"UPDATE instances SET study_instance_uid = '{study}'")  # noqa: S608
    assert run("status", "--study", study).exit_code == 0
    assert run("deliveries", "list", "--study", study).exit_code == 0
    refused = run("status", "--study", study.ljust(129, "1"))
    assert refused.exit_code == ExitCode.USAGE
    assert "128 characters" in refused.output
