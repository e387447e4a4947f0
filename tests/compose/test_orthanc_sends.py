"""Orthanc as the sender: a study that its users push to the edge comes back with results, once."""

import json
import urllib.request
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.compose_lab import ComposeLab, wait_until

from gateway.sender.generate import Study, generate, write

STABLE_SECONDS = 60.0
"""Must exceed StableAge in images/orthanc/orthanc.json several times."""


@dataclass(frozen=True)
class Stored:
    """A study in Orthanc: its Orthanc identifier and its UIDs."""

    name: str
    study_instance_uid: str
    sop_instance_uids: set[str]


def store(lab: ComposeLab, count: int, folder: Path) -> Stored:
    """Return a study that Orthanc got by its REST API, not from the edge."""
    outgoing = [write(instance, folder) for instance in generate(Study(count, datetime.now(UTC), "MR"))]
    names = set()
    for one in outgoing:
        request = urllib.request.Request(f"{lab.orthanc_url}/instances", one.path.read_bytes())  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  http on loopback
            names.add(json.load(answer)["ParentStudy"])
    [name] = names
    return Stored(name, outgoing[0].study_instance_uid, {one.sop_instance_uid for one in outgoing})


def push(lab: ComposeLab, study: Stored) -> None:
    """Do what "Send to DICOM modality" on Orthanc's pages does; every instance must be answered Success."""
    answer = lab.orthanc("/modalities/MINI_EDGE/store", [study.name])
    assert (answer["InstancesCount"], answer["FailedInstancesCount"]) == (len(study.sop_instance_uids), 0)


def received(lab: ComposeLab, study: Stored) -> Counter[str]:
    """Return how often the edge answered Success to each instance, duplicates included, by its log."""
    lines = lab.log(study.study_instance_uid)
    return Counter(
        line["sop_instance_uid"]
        for line in lines
        if line["stage"] == "receive" and line["outcome"] == "success"
    )


def instances(lab: ComposeLab, study: Stored) -> Counter[str]:
    """Return the rows that the edge has of each instance of the study."""
    found = lab.rows(
        f"SELECT sop_instance_uid FROM instances WHERE study_instance_uid = '{study.study_instance_uid}'"  # noqa: S608
    )
    return Counter(uid for [uid] in found)


def deliveries(lab: ComposeLab, study: Stored) -> Counter[tuple[str, str]]:
    """Return how many deliveries of the study are in each state, by route."""
    return Counter((route, state) for route, state, _ in delivery_rows(lab, study))


def delivery_rows(lab: ComposeLab, study: Stored) -> list[list[str]]:
    """Return route, state and number of attempts of each delivery of the study."""
    return lab.rows(
        "SELECT d.route, d.state, d.attempts FROM deliveries d JOIN instances i ON i.id = d.instance_id"  # noqa: S608
        f" WHERE i.study_instance_uid = '{study.study_instance_uid}' ORDER BY d.id"
    )


def wait_settled(lab: ComposeLab, study: Stored) -> None:
    """Wait until every delivery of the study is settled and Orthanc holds the study as complete."""
    wait_until(
        lambda: {state for _, state in deliveries(lab, study)} == {"delivered"}, 60, "all to be delivered"
    )
    wait_until(
        lambda: lab.orthanc(f"/studies/{study.name}")["IsStable"], STABLE_SECONDS, "Orthanc's stable study"
    )


@pytest.mark.guarantee("G4")
def test_a_study_from_orthanc_comes_back_with_results_once(lab: ComposeLab, tmp_path: Path) -> None:
    """Each original and each result enters the edge once and leaves it once per route; then nothing moves."""
    study = store(lab, 3, tmp_path)
    push(lab, study)
    results = lab.wait_results(study.sop_instance_uids)
    whole = study.sop_instance_uids | results
    wait_settled(lab, study)
    assert len(results) == 3
    assert lab.held(study.study_instance_uid) == whole
    once = Counter(dict.fromkeys(whole, 1))
    assert received(lab, study) == once
    assert instances(lab, study) == once
    assert deliveries(lab, study) == {("pacs", "delivered"): 6, ("workers", "delivered"): 3}


@pytest.mark.guarantee("G4")
def test_a_study_that_orthanc_sends_again_with_its_results_is_not_forwarded(
    lab: ComposeLab, tmp_path: Path
) -> None:
    """The second push contains the results too: they are received as repeats, neither kept nor forwarded."""
    study = store(lab, 2, tmp_path)
    push(lab, study)
    results = lab.wait_results(study.sop_instance_uids)
    wait_settled(lab, study)
    before = instances(lab, study), delivery_rows(lab, study)
    push(lab, Stored(study.name, study.study_instance_uid, study.sop_instance_uids | results))
    twice = Counter(dict.fromkeys(study.sop_instance_uids | results, 2))
    wait_until(lambda: received(lab, study) == twice, 30, "the log to show the second push")
    wait_settled(lab, study)
    assert (instances(lab, study), delivery_rows(lab, study)) == before
    assert received(lab, study) == twice
