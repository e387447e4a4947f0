"""`mini-pacs` on a real database and spool: the commands of an operator and their effects."""

import json
import os
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.launcher import command
from support.prepared_instances import STUDY, PreparedInstances
from typer.testing import CliRunner, Result

from cli.documents import Schema
from cli.exit_codes import ExitCode
from cli.main import build
from gateway.database.tables import breakers, overview
from gateway.domain.delivery import State
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route


def run(*words: str | int, answer: str | None = None) -> Result:
    """Run one command in this process."""
    return CliRunner().invoke(build(str(words[0])), [str(word) for word in words], input=answer)


def json_of(*words: str | int) -> Any:
    """Return the output of a successful command with --json; of a page, its items."""
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document.pop("schema") in set(Schema)
    return document["items"] if set(document) == {"items", "next"} else document


def files(kept: PreparedInstances) -> dict[str, int]:
    """Return how many files each folder of the spool holds."""
    found: dict[str, int] = {}
    for path in kept.spool.root.glob("*/*/*.dcm"):
        place = path.parent.parent.name
        found[place] = found.get(place, 0) + 1
    return found


def dead(kept: PreparedInstances, number: int) -> int:
    """Make a dead delivery to the PACS; return its id."""
    return kept.forward(
        kept.receive(number), State.DEAD, outcome=Outcome.NEVER, status=None, error="[boom] was not accepted"
    )


# ---- status --------------------------------------------------------------------------------------


def test_status_names_dead_deliveries_and_the_command_for_them(kept: PreparedInstances) -> None:
    """G2: count, reason and next command; no line is cut."""
    delivery_id = dead(kept, 1)
    shown = run("status")
    assert shown.exit_code == ExitCode.OK
    assert "1 deliveries to pacs are dead, mostly: [boom] was not accepted" in shown.stdout
    assert f"`mini-pacs deliveries show {delivery_id}`" in shown.stdout
    assert "`mini-pacs deliveries retry --state dead --route pacs`" in shown.stdout


def test_status_explains_an_open_breaker_of_the_pacs(kept: PreparedInstances) -> None:
    """It prints since when, why, how many wait, the time of the next probe, and that nothing is lost."""
    kept.receive(1)
    with kept.database.transaction() as session:
        breakers.note_failure(
            session,
            "ORTHANC",
            Route.PACS,
            instance_id=None,
            reason="connection refused",
            at_once=True,
            probe_by_store=False,
            threshold=3,
            probe_wait=timedelta(minutes=1),
        )
    shown = run("status").stdout
    assert "ORTHANC is away since" in shown
    assert "connection refused" in shown
    assert "1 instances wait; nothing is lost; next probe in" in shown
    assert "`mini-pacs destinations echo ORTHANC`" in shown


def test_status_check_fails_while_there_is_a_problem(kept: PreparedInstances) -> None:
    """It exits with 1 and prints problems only. A lab without processes always has a problem."""
    checked = run("status", "--check")
    assert checked.exit_code == ExitCode.REFUSED
    assert "No Storage SCP is connected" in checked.stdout
    assert "Deliveries" not in checked.stdout
    assert run("status").exit_code == ExitCode.OK
    del kept


def test_status_as_json_holds_counts_findings_and_space(kept: PreparedInstances) -> None:
    """The JSON document has everything that the screen shows."""
    kept.forward(kept.receive(1))
    document = json_of("status")
    counts = {(c["route"], c["state"]): c["count"] for c in document["overview"]["counts"]}
    assert counts == {("pacs", "delivered"): 1, ("workers", "pending"): 1}
    assert document["spool"]["files"]["incoming"] == 1
    assert document["well"] is False
    assert document["findings"]


def test_status_of_a_large_backlog_counts_the_unsettled_only(
    kept: PreparedInstances, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above a limit, open deliveries are counted up to that limit, and the rest is estimated."""
    monkeypatch.setattr(overview, "SMALL_TABLE_BYTES", -1)
    monkeypatch.setattr(overview, "COUNT_LIMIT", 2)
    for number in range(1, 4):
        kept.receive(number)
    kept.forward(kept.receive(4), State.DEAD, outcome=Outcome.NEVER, status=None, error="x")
    counts = {
        (c["route"], c["state"]): (c["count"], c["exact"]) for c in json_of("status")["overview"]["counts"]
    }
    assert counts["pacs", "pending"] == (2, False)
    assert counts["pacs", "dead"] == (1, True)
    shown = run("status").stdout
    assert "more than 2" in shown
    assert "settled)" in shown


def test_status_of_a_study_shows_each_step(kept: PreparedInstances) -> None:
    """Summary and timeline; an unknown study gives a message and exit code 1."""
    kept.forward(kept.receive(1))
    shown = run("status", "--study", STUDY)
    assert f"original {STUDY}.1" in shown.stdout
    assert "delivered" in shown.stdout
    document = json_of("status", "--study", STUDY)
    assert document["instances"][0]["steps"][0]["name"] == "received"
    assert run("status", "--study", "9.9").exit_code == ExitCode.REFUSED
    assert run("status", "--study", "../etc").exit_code == ExitCode.USAGE


# ---- deliveries ----------------------------------------------------------------------------------


def test_list_selects_by_state_route_and_study(kept: PreparedInstances) -> None:
    """All given selections must match."""
    delivery_id = dead(kept, 1)
    kept.receive(2, study="1.2.4")
    assert [d["delivery_id"] for d in json_of("deliveries", "list", "--state", "dead")] == [delivery_id]
    assert len(json_of("deliveries", "list", "--study", "1.2.4")) == 2
    assert len(json_of("deliveries", "list", "--study", "1.2.4", "--route", "pacs")) == 1
    assert "There are more" in run("deliveries", "list", "--limit", 1).stdout


def test_show_prints_every_attempt(kept: PreparedInstances) -> None:
    """One delivery with its attempts; an unknown delivery gives exit code 1."""
    delivery_id = dead(kept, 1)
    [attempt] = json_of("deliveries", "show", delivery_id)["tries"]
    assert attempt["outcome"] == "never"
    assert "[boom]" in run("deliveries", "show", delivery_id).stdout
    assert run("deliveries", "show", 999).exit_code == ExitCode.REFUSED


def test_retry_makes_a_dead_delivery_pending_and_moves_its_file(kept: PreparedInstances) -> None:
    """Attempts are reset, one message is enqueued, and the file leaves failed/."""
    delivery_id = dead(kept, 1)
    assert files(kept) == {"failed": 1}
    before = kept.value("SELECT count(*) FROM dramatiq.queue WHERE delivery_id = %(d)s", d=delivery_id)
    assert json_of("deliveries", "retry", "--delivery", delivery_id) == {"retried": [delivery_id]}
    assert kept.rows("SELECT state::text, attempts FROM deliveries WHERE id = %(d)s", d=delivery_id) == [
        ("pending", 0)
    ]
    after = kept.value("SELECT count(*) FROM dramatiq.queue WHERE delivery_id = %(d)s", d=delivery_id)
    assert after == before + 1
    assert "failed" not in files(kept)


def test_retry_makes_a_waiting_delivery_due_now(kept: PreparedInstances) -> None:
    """It stays pending."""
    delivery_id = kept.forward(
        kept.receive(1), State.PENDING, outcome=Outcome.REFUSED, status=0xC000, error="x"
    )
    assert json_of("deliveries", "retry", "--study", STUDY) == {"retried": [delivery_id]}
    assert kept.value("SELECT next_attempt_at <= now() FROM deliveries WHERE id = %(d)s", d=delivery_id)
    assert run("deliveries", "retry", "--study", STUDY).exit_code == ExitCode.REFUSED


def test_resend_asks_and_sends_a_delivered_instance_again(kept: PreparedInstances) -> None:
    """The answer no changes nothing; --yes sends again."""
    delivery_id = kept.forward(kept.receive(1))
    refused = run("deliveries", "resend", "--route", "pacs", answer="n\n")
    assert refused.exit_code != 0
    assert kept.value("SELECT state::text FROM deliveries WHERE id = %(d)s", d=delivery_id) == "delivered"
    assert json_of("deliveries", "resend", "--route", "pacs", "--yes") == {"resent": [delivery_id]}
    assert kept.value("SELECT state::text FROM deliveries WHERE id = %(d)s", d=delivery_id) == "pending"


def test_cancel_records_the_operator_and_retry_undoes_it(kept: PreparedInstances) -> None:
    """G2: a cancelled delivery is shown with its operator."""
    kept.receive(1)
    assert len(json_of("deliveries", "cancel", "--study", STUDY, "--yes")["cancelled"]) == 2
    by = {row[0] for row in kept.rows("SELECT settled_by FROM deliveries")}
    assert len(by) == 1
    assert "@" in by.pop()
    assert len(json_of("deliveries", "retry", "--all")["retried"]) == 2


def test_a_change_without_a_selection_is_refused(kept: PreparedInstances) -> None:
    """A forgotten option must not select every delivery."""
    kept.receive(1)
    assert run("deliveries", "cancel", "--yes").exit_code == ExitCode.USAGE
    assert run("deliveries", "retry", "--all", "--study", STUDY).exit_code == ExitCode.USAGE
    assert kept.value("SELECT count(*) FROM deliveries WHERE state = 'pending'") == 2


# ---- destinations, faults, sweep, config -----------------------------------------------------------


def test_pause_and_resume_are_seen_at_once(kept: PreparedInstances) -> None:
    """The pause shows its operator; a second pause changes nothing; an unknown AE title is a usage error."""
    assert json_of("destinations", "pause", "ORTHANC") == {"ae_title": "ORTHANC", "changed": True}
    assert json_of("destinations", "pause", "ORTHANC") == {"ae_title": "ORTHANC", "changed": False}
    [pacs] = [d for d in json_of("destinations", "list") if d["ae_title"] == "ORTHANC"]
    assert pacs["paused"]
    assert not pacs["is_open_for_work"]
    assert "ORTHANC is paused" in run("status").stdout
    assert json_of("destinations", "resume", "ORTHANC")["changed"]
    assert run("destinations", "pause", "NOBODY").exit_code == ExitCode.USAGE
    del kept


def test_a_pause_has_a_reason_and_an_end(kept: PreparedInstances) -> None:
    """The list and `status` show both; a second pause with an end replaces them; `resume` forgets them."""
    assert json_of("destinations", "pause", "ORTHANC", "--for", "2h", "--reason", "disk\u202eswap")["changed"]
    shown = run("status").stdout
    assert ": disk swap" in shown
    assert ", until " in shown
    assert (
        "Now its deliveries wait for 1d, or until"
        in run("destinations", "pause", "ORTHANC", "--for", "1d").stdout
    )
    [pacs] = [d for d in json_of("destinations", "list") if d["ae_title"] == "ORTHANC"]
    assert pacs["pause_reason"] is None
    assert kept.value("SELECT paused_until - now() > interval '23 h' FROM destinations WHERE paused")
    assert kept.value("SELECT count(*) FROM dramatiq.queue WHERE message ->> 'actor_name' = 'end_pause'") == 2
    assert json_of("destinations", "resume", "ORTHANC")["changed"]
    assert not kept.value("SELECT count(*) FROM destinations WHERE paused_until IS NOT NULL")
    for wrong in ("soon", "0s", "31d", "-1h"):
        assert run("destinations", "pause", "ORTHANC", "--for", wrong).exit_code == ExitCode.USAGE


def test_echo_names_a_peer_that_does_not_answer(kept: PreparedInstances) -> None:
    """No peer listens: exit code 3, and an error that says why."""
    answer = run("destinations", "echo", "ORTHANC", "--json")
    assert answer.exit_code == ExitCode.UNREACHABLE
    [one] = json.loads(answer.stdout)["items"]
    assert one["well"] is False
    assert "cannot connect" in one["error"]
    del kept


def test_faults_are_injected_listed_and_cleared(kept: PreparedInstances) -> None:
    """The value as option or argument, its default, its duration; afterwards none is left."""
    assert json_of("inject-fault", "io_delay_ms", 800)["value"] == 800
    assert json_of("inject-fault", "random_fail_rate")["value"] == 0.3
    assert json_of("inject-fault", "pacs_down", "--for", "1h30m")["for_seconds"] == 5400
    assert {fault["name"] for fault in json_of("faults")["active"]} == {
        "io_delay_ms",
        "random_fail_rate",
        "pacs_down",
    }
    assert "Fault io_delay_ms is injected by" in run("status").stdout
    assert json_of("clear-faults", "io_delay_ms") == {"cleared": ["io_delay_ms"]}
    run("clear-faults")
    assert json_of("faults")["active"] == []
    del kept


@pytest.mark.parametrize(
    "words",
    [
        ("nope",),
        ("pacs_down", 3),
        ("random_fail_rate", "1.5"),
        ("random_fail_rate", "--value", 0),
        ("pacs_down", "--stage", "receive"),
        ("pacs_down", "--for", "soon"),
    ],
)
def test_an_invalid_fault_is_refused(kept: PreparedInstances, words: tuple[str | int, ...]) -> None:
    """Unknown name, unexpected or invalid value, a stage without faults, no duration."""
    assert run("inject-fault", *words).exit_code == ExitCode.USAGE
    assert kept.value("SELECT count(*) FROM faults") == 0


def test_an_unknown_fault_lists_the_known_ones(kept: PreparedInstances) -> None:
    """The list has the effect of each."""
    assert "connections to the PACS are refused" in run("inject-fault", "nope").output
    del kept


def test_sweep_runs_the_named_verbs_only_and_dry_changes_nothing(kept: PreparedInstances) -> None:
    """It prints counts by verb; a dry run is not recorded as a run."""
    assert list(json_of("sweep", "rescue", "purge", "--dry-run")["counts"]) == ["rescue", "purge"]
    assert kept.value("SELECT count(*) FROM sweeps") == 0
    json_of("sweep")
    assert kept.value("SELECT count(*) FROM sweeps") == 4
    assert run("sweep", "vacuum").exit_code == ExitCode.USAGE


def test_config_check_prints_every_value(kept: PreparedInstances) -> None:
    """It prints every key with its value, but no password."""
    document = json_of("config", "check")
    assert document["values"]["edge.ae_title"] == "MINI_EDGE"
    assert document["values"]["forwarder.workers[4].ae_title"] == "APP05"
    assert document["database"] == "DATABASE_URL"
    del kept


# ---- reset-db ------------------------------------------------------------------------------------


def test_reset_deletes_rows_and_messages_and_keeps_files_and_pauses(kept: PreparedInstances) -> None:
    """Instances, deliveries, messages and the study number are gone; files become orphans, pauses stay."""
    kept.receive(1)
    dead(kept, 2)
    json_of("destinations", "pause", "ORTHANC")
    kept.value("SELECT nextval('study_numbers')")
    assert run("reset-db", answer="n\n").exit_code != 0
    assert kept.value("SELECT count(*) FROM instances") == 2
    document = json_of("reset-db", "--yes")
    assert document == {"instances": 2, "owed": 4, "orphaned": 2, "removed": 0}
    for name in ("instances", "deliveries", "attempts", "dramatiq.queue"):
        assert kept.value(f"SELECT count(*) FROM {name}") == 0  # noqa: S608  ours
    assert files(kept) == {"orphaned": 2}
    assert kept.value("SELECT paused FROM destinations WHERE ae_title = 'ORTHANC'")
    assert kept.value("SELECT nextval('study_numbers')") == 1


def test_reset_with_files_deletes_only_files_without_a_row(kept: PreparedInstances) -> None:
    """--files deletes the files of the deleted rows."""
    kept.receive(1)
    assert json_of("reset-db", "--yes", "--files")["removed"] == 1
    assert files(kept) == {}
    kept.receive(2)
    assert files(kept) == {"incoming": 1}


# ---- as a process --------------------------------------------------------------------------------


def test_an_unreachable_database_is_one_sentence_and_exit_code_3(edge_folder: Path) -> None:
    """No traceback: what failed, and where to look."""
    environment = {**os.environ, "DATABASE_URL": "postgresql://127.0.0.1:1/none"}
    ended = subprocess.run(
        command("mini-pacs", "status"), env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == ExitCode.UNREACHABLE
    assert ended.stderr.startswith("mini-pacs: cannot connect to PostgreSQL")
    assert "DATABASE_URL" in ended.stderr
    assert "Traceback" not in ended.stderr
    del edge_folder


def test_a_wrong_configuration_is_exit_code_2(edge_folder: Path) -> None:
    """The message names key and file."""
    path = edge_folder / "config.yaml"
    path.write_text(path.read_text() + "colour: red\n")
    ended = subprocess.run(
        command("mini-pacs", "config", "check"), capture_output=True, text=True, check=False
    )
    assert ended.returncode == ExitCode.USAGE
    assert "unknown key colour" in ended.stderr
    assert str(path) in ended.stderr
