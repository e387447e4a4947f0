"""`mini-pacs why`: the verdict on what is kept, refused, waiting, purged, or was never there."""

import json
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeEdge, Reconfigure
from support.forwarding import forwarding
from support.prepared_instances import STUDY, PreparedInstances
from support.synthetic_instances import Instance
from typer.testing import CliRunner, Result

from cli.main import build
from gateway.database.tables import decisions, refusals, search_hashes
from gateway.database.tables.decisions import Decided
from gateway.database.tables.refusals import RefusalRow, RefusedInstance
from gateway.database.wakeup import Wakeup
from gateway.dicom.dataset.part10 import preamble_and_file_meta
from gateway.domain.delivery import State
from gateway.domain.instance import Kind, Place
from gateway.domain.outcome import Outcome
from gateway.domain.refusal import Reason, RefusalKind
from gateway.domain.routing import Route, Target
from gateway.rules.language import parse
from gateway.rules.ruleset import RuleSet
from gateway.sweep.context import SweepContext
from gateway.sweep.purge import purge

PACS_ONLY = {"forwarder": {"mode": "pacs_only"}}
PATIENT, ACCESSION = "PAT-0815", "ACC4711"


@pytest.fixture
def kept(database_url: str, reconfigure: Reconfigure) -> Iterator[PreparedInstances]:
    """Yield an edge that owes everything to the PACS only."""
    prepared = PreparedInstances(database_url, reconfigure(PACS_ONLY))
    yield prepared
    prepared.database.close()


def run(*words: str, typed: str | None = None) -> Result:
    """Run the command in this process."""
    return CliRunner(env={"COLUMNS": "250"}).invoke(build("why"), ["why", *words], input=typed)


def said(*words: str, typed: str | None = None) -> dict[str, Any]:
    """Return the JSON document; its first item's verdict and exit code agree."""
    result = run(*words, "--json", typed=typed)
    document: dict[str, Any] = json.loads(result.stdout)
    assert document["schema"] == "mini-pacs/why/1"
    wells = [item["well"] for item in document["items"]]
    if "refusals" not in document:
        assert result.exit_code == (0 if wells and all(wells) else 1)
    return document


def sweep(kept: PreparedInstances, **changes: Any) -> SweepContext:
    """Return the context of a sweep that keeps nothing that is delivered."""
    section = kept.configuration.sweep.model_copy(update={"retention_hours": 1e-9, **changes})
    configuration = kept.configuration.model_copy(update={"sweep": section})
    return SweepContext(configuration, kept.database, kept.spool, Wakeup(kept.database.dsn))


def refuse(
    kept: PreparedInstances, uid: str, study: str = "", *, times: int = 3, sender: str = "CT1"
) -> None:
    """Write that an instance was refused."""
    now = datetime.now(UTC)
    instance = RefusedInstance(
        uid,
        study,
        sender,
        "10.0.0.9",
        Reason.CANNOT_UNDERSTAND,
        0xC000,
        "(0020,000D) is missing",
        times,
        now,
        now,
    )
    row = RefusalRow(
        RefusalKind.C_STORE, Reason.CANNOT_UNDERSTAND, sender, "MINI_EDGE", "10.0.0.9", times, now, now,
        0xC000, "(0020,000D) is missing", uid,
    )  # fmt: skip
    with kept.database.transaction() as session:
        refusals.add(session, [row], [instance])


def test_the_verdict_comes_first_and_the_troubled_instances_next(kept: PreparedInstances) -> None:
    """All, all but one, one cancelled, and one that waits; also of a series and of one instance."""
    for number in range(1, 4):
        kept.forward(kept.receive(number))
    text = said(STUDY)["verdict"]
    assert text.startswith("in the PACS since ")
    assert text.endswith(", all 3")
    assert said(f"{STUDY}.0")["verdict"] == text  # its series
    assert said(f"{STUDY}.1")["verdict"].startswith("in the PACS since ")

    dead = kept.receive(4)
    kept.forward(dead, State.DEAD, outcome=Outcome.NEVER, status=0xA900, error="0xA900: no such class")
    document = said(STUDY)
    assert document["verdict"] == "3 of 4 in the PACS: the PACS refused one (0xA900: no such class)"
    [item] = document["items"]
    assert [bad["sop_instance_uid"] for bad in item["troubled"]] == [f"{STUDY}.4"]
    assert item["commands"] == [
        f"mini-pacs deliveries retry --study {STUDY}",
        f"mini-pacs status --study {STUDY}",
    ]
    assert said(f"{STUDY}.4")["verdict"] == "not in the PACS: the PACS refused one (0xA900: no such class)"

    kept.receive(5)
    kept.run("UPDATE deliveries SET state = 'cancelled', settled_by = 'ann@edge' WHERE state = 'dead'")
    assert said(STUDY)["verdict"] == "3 of 5 in the PACS: one cancelled by ann@edge, one waiting"

    lines = run(STUDY).stdout.splitlines()
    assert lines[0].startswith("3 of 5 in the PACS")
    assert f"{STUDY}.4" in "".join(lines[:5])
    assert lines[-1].startswith("→ mini-pacs")


def test_all_troubled_instances_are_counted_and_some_are_shown(kept: PreparedInstances) -> None:
    """However many there are, the dead come before those that wait."""
    for number in range(1, 31):
        kept.receive(number)
    kept.forward(kept.receive(31), State.DEAD, outcome=Outcome.NEVER, status=0xC000, error="0xC000")
    [item] = said(STUDY, "--limit", "5")["items"]
    assert len(item["troubled"]) == 5
    assert item["troubled"][0]["state"] == "dead"
    assert "… and 26 more: --limit 31" in run(STUDY, "--limit", "5").stdout


def test_what_the_rules_sent_to_no_archive_is_said_with_rule_and_version(kept: PreparedInstances) -> None:
    """Also where another archive got it, and where the rest of the study is in the PACS."""
    rules = RuleSet(
        {
            Target(Route.PACS, "ORTHANC"): parse({"attribute": "Modality", "equals": "MR"}),
            Target(Route.ARCHIVES, "VNA"): None,
        }
    )
    refused = kept.receive(1)
    kept.run("DELETE FROM deliveries")
    decision = Decided(refused, rules.digest, (), (Target(Route.PACS, "ORTHANC"),), ())
    with kept.database.transaction() as session:
        decisions.keep(session, [decision], {rules.digest: rules.text})
    version = rules.digest.hex()[:8]
    document = said(STUDY)
    text = f"(ORTHANC accepts Modality (0008,0060) is MR; version {version} of the rules since "
    assert document["verdict"].startswith(f"the rules sent 1 instance to no archive {text}")
    assert document["items"][0]["commands"][1] == f"mini-pacs rules explain {STUDY}.1"

    kept.forward(kept.receive(2))
    both = said(STUDY)["verdict"]
    assert both.startswith("in the PACS since ")
    assert f"; the rules sent 1 instance to no archive {text}" in both
    kept.run(
        "INSERT INTO deliveries (instance_id, route, target, state, owed_since, priority)"
        " SELECT instance_id, 'archives', 'VNA', 'pending', now(), 4 FROM decisions"
    )
    assert "the rules sent 1 instance to VNA and not to the PACS" in said(STUDY)["verdict"]


def test_what_forwarder_mode_sends_to_no_archive_is_said(kept: PreparedInstances) -> None:
    """Nothing is owed to the PACS, and no rule decided that."""
    kept.receive(1)
    kept.run("DELETE FROM deliveries")
    assert said(STUDY)["verdict"] == "1 instance kept, owed to no PACS: see forwarder.mode"


def test_what_was_refused_is_found_by_its_uids(kept: PreparedInstances) -> None:
    """By the SOP Instance UID, and by the study where it was read."""
    refuse(kept, "1.7.1")
    refuse(kept, "1.7.2", "1.7", times=1)
    assert said("1.7.1")["verdict"].startswith("refused by the edge 3 times, last at ")
    assert said("1.7")["verdict"].endswith(": (0020,000D) is missing")
    assert "mini-pacs refusals --calling-aet CT1" in said("1.7")["items"][0]["commands"]


def test_a_refusal_counts_until_the_instance_is_accepted(kept: PreparedInstances) -> None:
    """One that is missing makes the study incomplete; results are counted beside the originals."""
    source = kept.receive(1)
    kept.forward(source)
    refuse(kept, f"{STUDY}.2", STUDY, times=1)
    document = said(STUDY)
    assert not document["items"][0]["well"]
    assert "; refused by the edge once, last at " in document["verdict"]
    kept.forward(kept.receive(2))
    document = said(STUDY)
    assert document["items"][0]["well"]
    assert document["verdict"].endswith(", all 2; refused once before it was accepted")
    kept.forward(kept.receive(3, kind=Kind.RESULT, sender="APP01"))
    assert ", all 2; with 1 result; " in said(STUDY)["verdict"]


def test_what_was_never_there_is_said_with_its_limit(kept: PreparedInstances) -> None:
    """Never `never`: the history ends."""
    assert kept.value("SELECT count(*) FROM instances") == 0
    verdict = said("1.2.3.4.5")["verdict"]
    assert verdict == "not within the last 400 days: the edge neither accepted nor refused it"


def test_the_history_answers_after_the_purge(kept: PreparedInstances) -> None:
    """With sender, time and outcome; and no longer than sweep.history_days."""
    for number in range(1, 4):
        kept.forward(kept.receive(number, sender="CT1"))
    kept.receive(4, sender="CT1")
    kept.run(
        "UPDATE deliveries SET state = 'cancelled', settled_at = now(), settled_by = 'ann@edge'"
        " WHERE state = 'pending'"
    )
    context = sweep(kept)
    assert purge(context)["purged"] == 4
    context.wakeup.close()
    assert kept.value("SELECT count(*) FROM instances") == 0
    document = said(STUDY)
    assert document["verdict"].startswith("3 of 4 in the PACS: one cancelled; its copies were deleted by ")
    past = document["items"][0]["past"]
    assert past[0]["sop_instance_uid"] == f"{STUDY}.4"  # the troubled one first
    assert {one["calling_ae_title"] for one in past} == {"CT1"}
    assert past[1]["outcomes"]["ORTHANC"]["state"] == "delivered"
    assert said(f"{STUDY}.1")["verdict"].startswith("in the PACS since ")
    assert len(said(f"{STUDY}.0")["items"][0]["past"]) == 4

    # Received again, and purged again: one study, and every reception.
    kept.forward(kept.receive(1, sender="CT1"))
    assert "3 of 5" not in said(STUDY)["verdict"]
    context = sweep(kept)
    purge(context)
    assert len(said(STUDY)["items"][0]["past"]) == 5
    assert kept.value("SELECT count(*) FROM history_studies") == 1
    kept.run("UPDATE history_studies SET last_received_at = now() - interval '401 days'")
    purge(context)
    context.wakeup.close()
    assert kept.value("SELECT count(*) FROM history_instances") == 0
    assert said(STUDY)["verdict"].startswith("not within the last 400 days")


def test_without_history_days_none_is_written(kept: PreparedInstances) -> None:
    """history_days: 0."""
    kept.forward(kept.receive(1))
    context = sweep(kept, history_days=0)
    assert purge(context)["purged"] == 1
    context.wakeup.close()
    assert kept.value("SELECT count(*) FROM history_studies") == 0


def test_an_ae_title_and_a_time(kept: PreparedInstances) -> None:
    """What it sent, and what it was refused; nothing outside of the time."""
    kept.forward(kept.receive(1, study="1.5", sender="APP01"))
    refuse(kept, "1.7.1", sender="APP01")
    document = said("APP01", "--since", "1h")
    assert document["verdict"].startswith(
        "APP01 sent 1 study in that time; refused by the edge 3 times: APP01 sent "
    )
    assert [item["uid"] for item in document["items"]] == ["1.5"]
    assert document["refusals"][0]["count"] == 3
    before = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    document = said("APP01", "--at", before)
    assert document["verdict"] == "nothing came from APP01 in that time, and nothing was refused"
    refuse(kept, "1.7.1", sender="CT9")  # in no list of the configuration, but it was refused
    assert said("CT9")["verdict"].startswith("refused by the edge 3 times")


def test_what_waits_for_postgresql_is_said_while_it_is_away(
    make_edge: MakeEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spool shows what is durable; of anything else PostgreSQL is the one to ask."""
    edge = make_edge()
    monkeypatch.setenv("DATABASE_URL", "postgresql://somebody@127.0.0.1:1/none")
    with forwarding(edge) as core:
        instance = Instance()
        core.received(instance)
        for uid in (instance.sop_instance_uid, instance.study_instance_uid):
            document = json.loads(run(uid, "--json").stdout)
            assert document["verdict"].startswith("1 instance received since ")
            assert document["verdict"].endswith(", durable, and waiting for PostgreSQL")
            assert document["remark"].startswith("PostgreSQL cannot be reached")
        assert run("1.2.3.4.5").exit_code == 3


# ---- by number -----------------------------------------------------------------------------------------


def write_file(kept: PreparedInstances, number: int, study: str) -> None:
    """Give an instance a file with an accession number and a patient ID."""

    def element(tag: int, vr: bytes, value: str) -> bytes:
        raw = value.encode() + b" " * (len(value) % 2)
        return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(raw)) + raw

    data = element(0x0008_0050, b"SH", ACCESSION) + element(0x0010_0020, b"LO", PATIENT)
    meta = preamble_and_file_meta(
        "1.2.840.10008.5.1.4.1.1.7", f"{study}.{number}", "1.2.840.10008.1.2.1", source_ae_title="CT1"
    )
    for place in Place:
        path = kept.spool.path(place, study, f"{study}.{number}.dcm")
        if path.exists():
            path.write_bytes(meta + data + element(0x0020_000D, b"UI", study))


def test_a_number_is_found_in_the_files_when_asked(kept: PreparedInstances) -> None:
    """Accession number or patient ID, from standard input; capitals do not matter."""
    for study in ("1.5", "1.6"):
        kept.forward(kept.receive(1, study=study))
    write_file(kept, 1, "1.6")
    document = said("--read-files", typed=f" {PATIENT.lower()} \n")
    assert [item["uid"] for item in document["items"]] == ["1.6"]
    assert document["remark"] == "one file of each of 2 series was read; 1 could not be read"
    assert [item["uid"] for item in said("-", "--read-files", typed=f"{ACCESSION}\n")["items"]] == ["1.6"]
    assert said("--read-files", typed="PAT-0816\n")["items"] == []
    asked = run(PATIENT)
    assert asked.exit_code == 1
    assert "--read-files" in asked.output


def with_key(kept: PreparedInstances, reconfigure: Reconfigure, path: Path) -> None:
    """Switch the search by number on."""
    path.write_bytes(bytes(range(32)))
    kept.configuration = reconfigure({**PACS_ONLY, "edge": {"search_key": str(path)}})


def test_a_number_is_found_by_its_keyed_hash(
    kept: PreparedInstances, reconfigure: Reconfigure, tmp_path: Path
) -> None:
    """Also after the purge; the hash goes with the history; neither table nor log holds the number."""
    with_key(kept, reconfigure, tmp_path / "search.key")
    kept.forward(kept.receive(1, study="1.6"))
    write_file(kept, 1, "1.6")
    assert said(typed=f"{PATIENT}\n")["items"] == []
    context = sweep(kept, retention_hours=24)
    purge(context)
    assert [item["uid"] for item in said(typed=f"{PATIENT}\n")["items"]] == ["1.6"]
    assert [item["uid"] for item in said(typed=f"{ACCESSION.lower()}\n")["items"]] == ["1.6"]
    assert said(typed="PAT-0816\n")["items"] == []
    context.wakeup.close()

    context = sweep(kept)
    assert purge(context)["purged"] == 1
    assert said(typed=f"{PATIENT}\n")["verdict"].startswith("in the PACS since ")
    kept.run("UPDATE history_studies SET last_received_at = now() - interval '401 days'")
    purge(context)
    context.wakeup.close()
    assert kept.value("SELECT count(*) FROM search_hashes") == 0


def test_the_word_is_written_nowhere(
    kept: PreparedInstances, reconfigure: Reconfigure, tmp_path: Path
) -> None:
    """G8: no row and no line of a log has it, in no way of searching."""
    with_key(kept, reconfigure, tmp_path / "search.key")
    kept.forward(kept.receive(1, study="1.6"))
    write_file(kept, 1, "1.6")
    context = sweep(kept, retention_hours=24)
    purge(context)
    context.wakeup.close()
    for words in ((), ("--read-files",)):
        assert said(*words, typed=f"{PATIENT}\n")["items"]
    tables = [row[0] for row in kept.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    for table in tables:
        rows = kept.rows(f"SELECT to_jsonb(t)::text FROM {table} t")  # noqa: S608  names of our tables
        assert PATIENT not in str(rows), table
    log = kept.configuration.edge.log_path
    assert not log.exists() or PATIENT not in log.read_text()


def test_searches_by_hash_are_limited(
    kept: PreparedInstances, reconfigure: Reconfigure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who tries every number is refused after some."""
    monkeypatch.setattr(search_hashes, "MOST_SEARCHES", 2)
    with_key(kept, reconfigure, tmp_path / "search.key")
    for _ in range(2):
        assert run(typed="1\n").exit_code == 1
    refused = run(typed="1\n")
    assert refused.exit_code == 1
    assert "wait two minutes" in refused.output


def test_the_sweep_deletes_the_hashes_when_the_search_is_switched_off(
    kept: PreparedInstances, reconfigure: Reconfigure, tmp_path: Path
) -> None:
    """Without edge.search_key nothing is left to search."""
    with_key(kept, reconfigure, tmp_path / "search.key")
    kept.receive(1, study="1.6")
    write_file(kept, 1, "1.6")
    context = sweep(kept, retention_hours=24)
    purge(context)
    assert kept.value("SELECT count(*) FROM search_hashes") == 2
    kept.configuration = reconfigure(PACS_ONLY)
    purge(sweep(kept, retention_hours=24))
    assert kept.value("SELECT count(*) FROM search_hashes") == 0


def test_a_key_that_cannot_be_used_is_a_configuration_error(
    kept: PreparedInstances, reconfigure: Reconfigure, tmp_path: Path
) -> None:
    """Missing, too short, or where a backup of the spool would hold it."""
    inside = kept.configuration.edge.data_root / "key"
    inside.write_bytes(bytes(32))
    (tmp_path / "short").write_bytes(bytes(31))
    for path, part in (
        (tmp_path / "none", "head -c 32"),
        (tmp_path / "short", "31 bytes"),
        (inside, "data_root"),
    ):
        reconfigure({**PACS_ONLY, "edge": {"search_key": str(path)}})
        result = run(typed="1\n")
        assert result.exit_code == 2, result.output
        assert part in result.output.replace("\n", " ")


def test_wrong_words_are_usage_errors(kept: PreparedInstances) -> None:
    """An empty word, two times, a time that is none."""
    assert kept.value("SELECT 1") == 1
    for words in (("  ",), ("APP01", "--since", "1h", "--at", "04:19"), ("APP01", "--at", "noon")):
        assert run(*words).exit_code == 2, words
