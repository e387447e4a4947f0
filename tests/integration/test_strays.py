"""`mini-pacs instances list` and `mini-pacs results list`: what does not fit, from whom, and why."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from conftest import MakeEdge
from support.forwarding import Forwarding, forwarding
from support.synthetic_instances import Instance, new_uid, result_of, study_of
from typer.testing import CliRunner, Result

from cli.main import build


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core, in this process."""
    with forwarding(make_edge()) as core:
        yield core


def run(*words: str) -> Result:
    """Run a command in this process."""
    return CliRunner(env={"COLUMNS": "250"}).invoke(build(words[0]), words)


def pages(*words: str) -> list[dict[str, Any]]:
    """Return the items of every page, two a page."""
    items: list[dict[str, Any]] = []
    more: list[str] = []
    while True:
        document = json.loads(run(*words, "--json", "--limit", "2", *more).stdout)
        assert len(document["items"]) <= 2
        items += document["items"]
        if document["next"] is None:
            return items
        more = ["--after", document["next"]]


def test_a_uid_that_keeps_coming_with_other_bytes_is_one_row(core: Forwarding) -> None:
    """With its versions, senders and deliveries; the UID that changed last is first, each is on one page."""
    fine = Instance()
    core.receive(fine)
    twice, often = study_of(2)
    others = [study_of(1)[0] for _ in range(3)]
    for instance in (twice, often, *others):
        core.receive(instance)
        core.receive(replace(instance, payload=b"\x03\x04" * 512))
    core.receive(replace(often, payload=b"\x05\x06" * 512))
    found = pages("instances", "list", "--conflict")
    uids = [row["sop_instance_uid"] for row in found]
    assert sorted(uids) == sorted(one.sop_instance_uid for one in (twice, often, *others))
    assert (uids[0], found[0]["versions"]) == (often.sop_instance_uid, 3)
    assert found[0]["deliveries"] == {"pending": 6}
    assert found[0]["senders"] == ["ORTHANC@127.0.0.1"]
    shown = run("instances", "list", "--conflict").stdout
    assert often.sop_instance_uid in shown
    assert fine.sop_instance_uid not in shown.split()
    assert len(pages("instances", "list")) == 12
    assert len(pages("instances", "list", "--study", fine.study_instance_uid)) == 1
    assert run("instances", "list", "--conflict", "--study", "1.2").exit_code == 2
    assert run("instances", "list", "--study", "x").exit_code == 2


def test_results_without_a_source_say_from_whom_and_why(core: Forwarding) -> None:
    """One names an unknown instance, one nothing; a result with its source is not among them."""
    known, study = Instance(), new_uid()
    core.receive(known)
    core.receive(result_of(known), worker="APP01")
    stray = Instance()
    core.receive(result_of(stray), worker="APP02")
    core.receive(replace(result_of(study=study), sources=()), worker="APP03")
    found = pages("results", "list", "--unmatched")
    assert [(row["calling_ae_title"], row["correlation"]) for row in found] == [
        ("APP03", "unmatched"),
        ("APP02", "unmatched"),
    ]
    assert found[0]["reason"] == "it names no source, and the edge keeps no original of its study"
    assert found[1]["reason"].startswith("it names instances that the edge does not keep, as ")
    assert len(pages("results", "list")) == 3
    assert len(pages("results", "list", "--flagged")) == 2
    assert "APP02@" in run("results", "list", "--unmatched").stdout
    assert run("results", "list", "--after", "x").exit_code == 2


def test_empty_lists_say_so(core: Forwarding) -> None:
    """No table without a row."""
    assert core.edge.one("SELECT 1") == 1
    assert run("instances", "list", "--conflict").stdout == "No UID came with other bytes.\n"
    assert run("instances", "list").stdout == "No instance is kept.\n"
    assert run("results", "list", "--unmatched").stdout == "There is no such result.\n"
