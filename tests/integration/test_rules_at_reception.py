"""The receiver decides by rules before Success; envelope and rows keep the decision."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import yaml
from conftest import MakeEdge
from support.edge_setup import EdgeSetup
from support.synthetic_instances import Instance, result_of
from support.targets import forwarder, hospital, owed
from support.waiting import wait_until
from typer.testing import CliRunner

from cli.main import build
from gateway.config.operation import Sweep
from gateway.spool.envelope import read_envelope

IS_CT = {"attribute": "Modality", "equals": "CT"}
RULES: dict[str, Any] = {
    "VNA": {"not": {"attribute": "Modality", "in": ["MG", "SR"]}},
    "chest-ct": {"all": [IS_CT, {"calling_ae": ["CT1"]}]},
    "any-mr": {"attribute": "Modality", "equals": "MR"},
}
NOT_MG = {"not": {"attribute": "Modality", "equals": "MG"}}
DECISION = """
SELECT d.accepted, d.refused, d.undecided FROM decisions d JOIN instances i ON i.id = d.instance_id
WHERE i.sop_instance_uid = %(uid)s
"""


KNOWN_RECEIVERS = "SELECT count(*) FROM processes WHERE kind = 'receiver'"
"""A receiver without a row yet is not asked by a reload; it catches up a moment later."""


def with_rules(rules: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the keys of the section forwarder with these rules, by archive or application."""
    section = forwarder(**changes)
    for archive in section["archives"]:
        if archive["ae_title"] in rules:
            archive["accepts"] = rules[archive["ae_title"]]
    for name, application in section["applications"].items():
        if name in rules:
            application["accepts"] = rules[name]
    return {key: section[key] for key in ("archives", "applications")}


def edge_with(make_edge: MakeEdge, rules: Mapping[str, Any]) -> EdgeSetup:
    """Return an edge with these rules of archives and applications."""
    return hospital(make_edge, **with_rules(rules))


def change_rules(edge: EdgeSetup, rules: Mapping[str, Any]) -> None:
    """Write other rules into config.yaml, for processes that start after this."""
    path = edge.configuration.source
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for archive in (content["forwarder"]["orthanc"], *content["forwarder"]["archives"]):
        archive.pop("accepts", None)
        if archive["ae_title"] in rules:
            archive["accepts"] = rules[archive["ae_title"]]
    for name, application in content["forwarder"]["applications"].items():
        application.pop("accepts", None)
        if name in rules:
            application["accepts"] = rules[name]
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def command(*words: str) -> dict[str, Any]:
    """Return the document of a command."""
    result = CliRunner().invoke(build(words[0]), [*words, "--json"])
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_each_target_is_owed_what_it_accepts(make_edge: MakeEdge, monkeypatch: pytest.MonkeyPatch) -> None:
    """CT, MR and a mammogram; the envelope says what the rows say; the rules are kept once, as text."""
    edge = edge_with(make_edge, RULES)
    monkeypatch.setenv("DATABASE_URL", edge.dsn)
    monkeypatch.setenv("MINI_PACS_CONFIG", str(edge.configuration.source))
    edge.serve()
    ct, mr, mg = Instance(), Instance(modality="MR"), Instance(modality="MG")
    assert edge.send(ct, calling="CT1") == [0]
    assert edge.send(mr, mg, calling="CT1") == [0, 0]
    assert set(owed(edge, ct)) == {"pacs ORTHANC", "archives VNA", "archives RES", "workers chest-ct"}
    assert set(owed(edge, mr)) == {"pacs ORTHANC", "archives VNA", "archives RES", "workers any-mr"}
    assert set(owed(edge, mg)) == {"pacs ORTHANC", "archives RES"}
    [(accepted, refused, undecided)] = edge.rows(DECISION, uid=mg.sop_instance_uid)
    assert accepted == ["pacs:ORTHANC", "archives:RES"]
    assert refused == ["archives:VNA", "workers:chest-ct", "workers:any-mr"]
    assert undecided == []
    [path] = [path for name, path in edge.files().items() if name.endswith(f"{mg.sop_instance_uid}.dcm")]
    envelope = read_envelope(path)
    assert envelope is not None
    assert [list(map(str, envelope.targets)), list(map(str, envelope.refused))] == [accepted, refused]
    rules = edge.configuration.forwarder.rules
    assert [(bytes(d), t) for d, t in edge.rows("SELECT digest, rules FROM rule_versions")] == [
        (rules.digest, rules.text)
    ]
    said = command("rules", "explain", mg.sop_instance_uid)["instances"][0]
    assert {one["target"]: (one["then"], one["now"]) for one in said["targets"]} == {
        **dict.fromkeys(accepted, ("accepted", "accepted")),
        **dict.fromkeys(refused, ("refused", "refused")),
    }
    [chest] = [one for one in said["then"] if one["target"] == "workers:chest-ct"]
    assert [(one["values"], one["outcome"]) for one in chest["conditions"]] == [
        (None, "does not hold"),
        (["MG"], "does not hold"),
        (["CT1"], "holds"),
    ]


def test_a_repeat_keeps_its_decision(make_edge: MakeEdge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules that changed meanwhile decide what is new; `rules explain` says both."""
    edge = edge_with(make_edge, RULES)
    monkeypatch.setenv("DATABASE_URL", edge.dsn)
    monkeypatch.setenv("MINI_PACS_CONFIG", str(edge.configuration.source))
    scp = edge.serve()
    mr = Instance(modality="MR")
    edge.send(mr, calling="CT1")
    first = owed(edge, mr)
    scp.stop()
    change_rules(edge, {"chest-ct": {"attribute": "Modality", "equals": "MR"}, "any-mr": IS_CT})
    edge.serve()
    assert edge.send(mr, calling="CT1") == [0]
    new = Instance(modality="MR")
    edge.send(new, calling="CT1")
    assert owed(edge, mr) == first
    assert {one for one in owed(edge, new) if one.startswith("workers")} == {"workers chest-ct"}
    assert edge.one("SELECT count(*) FROM rule_versions") == 2
    said = command("rules", "explain", mr.sop_instance_uid)["instances"][0]
    of_targets = {one["target"]: (one["then"], one["now"]) for one in said["targets"]}
    assert of_targets["workers:chest-ct"] == ("refused", "accepted")
    assert of_targets["workers:any-mr"] == ("accepted", "refused")
    assert said["digest_then"] != said["digest_now"]


def test_what_cannot_be_decided_goes_to_archives_and_is_shown(
    make_edge: MakeEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line of the log has the attribute and the reason, and not the value; `status` has a finding."""
    number = {"attribute": "Modality", "matches": "M.*"}
    edge = edge_with(make_edge, {"VNA": number, "any-mr": number})
    monkeypatch.setenv("DATABASE_URL", edge.dsn)
    monkeypatch.setenv("MINI_PACS_CONFIG", str(edge.configuration.source))
    edge.serve()
    odd = Instance(modality="M\N{LATIN SMALL LETTER E WITH ACUTE}")
    assert edge.send(odd, calling="CT1") == [0]
    assert "archives VNA" in owed(edge, odd)
    assert "workers any-mr" not in owed(edge, odd)
    [(_, _, undecided)] = edge.rows(DECISION, uid=odd.sop_instance_uid)
    assert undecided == ["archives:VNA", "workers:any-mr"]
    found = [one for one in command("status")["findings"] if one["key"].startswith("rules.undecided")]
    assert {one["key"]: odd.sop_instance_uid in one["text"] for one in found} == {
        "rules.undecided:archives:VNA": True,
        "rules.undecided:workers:any-mr": True,
    }
    reason = "Modality (0008,0060) has characters that its VR does not allow"
    assert [line["error"] for line in edge.log(outcome="undecided")] == [
        f"the rule of {name} cannot be decided, so it {follows}: {reason}; "
        f"mini-pacs rules explain {odd.sop_instance_uid}"
        for name, follows in (("VNA", "gets it all the same"), ("any-mr", "does not get it"))
    ]


def test_results_go_to_the_archives_that_accept_them(make_edge: MakeEdge) -> None:
    """RES takes no results, VNA no SR; an application is not asked."""
    edge = edge_with(make_edge, RULES)
    edge.serve()
    source = Instance()
    edge.send(source, calling="CT1")
    image, report = result_of(source), replace(result_of(source), modality="SR")
    edge.send(image, report, calling="APP01")
    assert set(owed(edge, image)) == {"pacs ORTHANC", "archives VNA"}
    assert set(owed(edge, report)) == {"pacs ORTHANC"}


def test_what_no_target_accepts_is_kept_and_shown(
    make_edge: MakeEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is answered Success, owed to nobody, explained, and moves to sent/ like what is delivered."""
    edge = edge_with(make_edge, {})
    monkeypatch.setenv("DATABASE_URL", edge.dsn)
    monkeypatch.setenv("MINI_PACS_CONFIG", str(edge.configuration.source))
    change_rules(edge, dict.fromkeys(("ORTHANC", "VNA", "RES", "chest-ct", "any-mr"), NOT_MG))
    edge.serve()
    mg = Instance(modality="MG")
    assert edge.send(mg, calling="CT1") == [0]
    assert owed(edge, mg) == {}
    said = command("rules", "explain", mg.sop_instance_uid)["instances"][0]
    assert {one["then"] for one in said["targets"]} == {"refused"}
    [(name, path)] = edge.files().items()
    assert name == f"sent/{mg.sop_instance_uid}.dcm"
    assert edge.send(mg, calling="CT1") == [0]
    assert owed(edge, mg) == {}
    # A process may die between the commit and the move: the sweep moves the file.
    folder = edge.spool.root / "incoming" / mg.study_instance_uid
    folder.mkdir(exist_ok=True)
    path.rename(folder / path.name)
    at_once = Sweep(orphan_grace_seconds=0.001)
    edge.configuration = edge.configuration.model_copy(update={"sweep": at_once})
    edge.heal()
    assert list(edge.files()) == [name]
    edge.scp.stop()
    edge.run("TRUNCATE instances, rule_versions, dramatiq.queue CASCADE")
    rebuilt = edge.start("mini-pacs", "db", "rebuild", "--yes")
    assert rebuilt.popen.wait(60) == 0, rebuilt.text()
    assert owed(edge, mg) == {}
    assert edge.rows("SELECT place::text FROM instances") == [("sent",)]


def test_a_rebuild_takes_the_decision_from_the_file(make_edge: MakeEdge) -> None:
    """Other rules hold when the database is rebuilt: what was decided before Success stays."""
    edge = edge_with(make_edge, RULES)
    scp = edge.serve()
    mr = Instance(modality="MR")
    edge.send(mr, calling="CT1")
    first = owed(edge, mr)
    [decided] = edge.rows(DECISION, uid=mr.sop_instance_uid)
    scp.stop()
    edge.run("TRUNCATE instances, rule_versions, dramatiq.queue CASCADE")
    change_rules(edge, {"any-mr": IS_CT})
    rebuilt = edge.start("mini-pacs", "db", "rebuild", "--yes")
    assert rebuilt.popen.wait(60) == 0, rebuilt.text()
    assert owed(edge, mr) == first
    assert edge.rows(DECISION, uid=mr.sop_instance_uid) == [decided]


def test_a_reload_changes_what_is_received_from_then_on(
    make_edge: MakeEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a restart: the receivers take the rules; both versions are kept."""
    edge = edge_with(make_edge, RULES)
    monkeypatch.setenv("DATABASE_URL", edge.dsn)
    monkeypatch.setenv("MINI_PACS_CONFIG", str(edge.configuration.source))
    edge.serve()
    receivers = edge.wait_log(outcome="listening")["count"]
    wait_until(lambda: edge.one(KNOWN_RECEIVERS) == receivers, 30, "each receiver to have its row")
    before, after = Instance(modality="MR"), Instance(modality="MR")
    edge.send(before, calling="CT1")
    change_rules(edge, {"any-mr": IS_CT, "chest-ct": IS_CT})
    command("config", "reload", "--yes")
    edge.send(after, calling="CT1")
    assert {one for one in owed(edge, before) if one.startswith("workers")} == {"workers any-mr"}
    assert {one for one in owed(edge, after) if one.startswith("workers")} == set()
    assert edge.one("SELECT count(*) FROM rule_versions") == 2
