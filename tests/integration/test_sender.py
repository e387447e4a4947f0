"""The sender with real peers: DCMTK's storescp, an acceptor that refuses or aborts, and no peer at all."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from support.dicom_peers import DEADLINE_SECONDS, Edge, Received, dcmtk, edge
from support.launcher import REPOSITORY, Processes
from support.waiting import wait_until

from gateway.dicom.association import PeerAddress
from gateway.dicom.policy import CALLING_AE_TITLE_NOT_RECOGNIZED as STRANGER
from gateway.dicom.policy import AbortAssociation
from gateway.errors import AssociationRejectedError, PeerAwayError
from gateway.sender.collect import collect
from gateway.sender.generate import Study, generate, write
from gateway.sender.outgoing import Outgoing
from gateway.sender.send import Priority, SendOptions, send

TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
WHEN = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001  DICOM's dates have no zone
MANNER = SendOptions("MODALITY")


@pytest.fixture
def receiver() -> Iterator[Edge]:
    """Yield an acceptor that records."""
    with edge() as running:
        yield running


@pytest.fixture
def study(tmp_path: Path) -> list[Outgoing]:
    """Return six small instances."""
    study = Study(instances=6, when=WHEN, modality="NM")
    return [write(instance, tmp_path / "study") for instance in generate(study)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _peer(port: int) -> PeerAddress:
    return PeerAddress("127.0.0.1", port, "EDGE", timeout_seconds=5, connect_timeout_seconds=5)


def test_every_test_file_arrives_byte_for_byte(receiver: Edge) -> None:
    """G3: the data set is that of the file, in its own transfer syntax."""
    instances = collect([TEST_FILES]).instances
    outcomes = list(send(instances, receiver.peer, MANNER))
    assert all(sent.accepted for sent in outcomes)
    received = receiver.policy.received
    assert [bytes(r.data) for r in received] == [b"".join(i.data_set()) for i in instances]
    assert [r.request.transfer_syntax_uid for r in received] == [i.transfer_syntax_uid for i in instances]


def test_bursts_use_several_associations(receiver: Edge, study: list[Outgoing]) -> None:
    """Each instance is sent once, with the requested priority."""

    def answer(_: Received) -> tuple[int, str]:
        wait_until(lambda: len(receiver.policy.requestors) == 3, DEADLINE_SECONDS, "three associations")
        return 0, ""

    receiver.policy.answer = answer
    outcomes = list(
        send(study, receiver.peer, SendOptions("MODALITY", associations=3, priority=Priority.HIGH))
    )
    assert sorted(sent.instance.sop_instance_uid for sent in outcomes) == sorted(
        i.sop_instance_uid for i in study
    )
    assert len(receiver.policy.received) == len(study)
    assert len(receiver.policy.requestors) == 3
    assert {r.request.priority for r in receiver.policy.received} == {Priority.HIGH}


def test_a_refusal_is_reported_with_status_and_comment(receiver: Edge, study: list[Outgoing]) -> None:
    """The others are sent over the same association."""
    refused = study[2].sop_instance_uid

    def answer(received: Received) -> tuple[int, str]:
        return (0xA700, "no space") if received.request.sop_instance_uid == refused else (0, "")

    receiver.policy.answer = answer
    outcomes = list(send(study, receiver.peer, MANNER))
    failed = [sent for sent in outcomes if not sent.accepted]
    assert [(sent.instance.sop_instance_uid, sent.status, sent.comment) for sent in failed] == [
        (refused, 0xA700, "no space")
    ]
    assert len(receiver.policy.requestors) == 1


def test_a_broken_association_fails_one_instance(receiver: Edge, study: list[Outgoing]) -> None:
    """The instance at which the peer aborts is reported; the others use a new association."""
    broken = study[1].sop_instance_uid

    def answer(received: Received) -> tuple[int, str]:
        if received.request.sop_instance_uid == broken:
            raise AbortAssociation
        return 0, ""

    receiver.policy.answer = answer
    outcomes = list(send(study, receiver.peer, MANNER))
    assert [sent.instance.sop_instance_uid for sent in outcomes if not sent.accepted] == [broken]
    assert len(outcomes) == len(study)
    assert len(receiver.policy.requestors) == 2


def test_a_declined_context_fails_its_instances_only(receiver: Edge, study: list[Outgoing]) -> None:
    """Those instances are reported."""
    receiver.policy.accepted_sop_classes = frozenset({study[0].sop_class_uid})
    foreign = [i for i in collect([TEST_FILES]).instances if i.sop_class_uid != study[0].sop_class_uid][:2]
    outcomes = {sent.instance: sent for sent in send([*foreign, *study], receiver.peer, MANNER)}
    assert all(outcomes[i].accepted for i in study)
    for instance in foreign:
        assert outcomes[instance].status is None
        assert "not accepted" in outcomes[instance].comment


def test_every_instance_is_reported_when_the_peer_goes_away(study: list[Outgoing]) -> None:
    """Each instance that was not sent is reported once."""
    with edge() as running:
        outcomes = []
        for sent in send(study, running.peer, MANNER):
            outcomes.append(sent)
            if len(outcomes) == 1:
                running.policy.rejection = STRANGER
                running.policy.answer = _abort
    assert len(outcomes) == len(study)
    assert outcomes[0].accepted
    assert not outcomes[-1].accepted
    assert "not sent" in outcomes[-1].comment


def test_a_missing_file_fails_alone(receiver: Edge, study: list[Outgoing]) -> None:
    """A file that was deleted in the meantime is reported."""
    study[0].path.unlink()
    first, *rest = send(study, receiver.peer, MANNER)
    assert not first.accepted
    assert "cannot be read" in first.comment
    assert all(sent.accepted for sent in rest)


def test_an_unreachable_peer_and_a_rejection_are_raised(receiver: Edge, study: list[Outgoing]) -> None:
    """Nothing was sent, so no instance is reported; the error is raised once."""
    with pytest.raises(PeerAwayError, match="refused"):
        list(send(study, _peer(_free_port()), SendOptions("MODALITY", associations=3)))
    receiver.policy.rejection = STRANGER
    with pytest.raises(AssociationRejectedError):
        list(send(study, receiver.peer, MANNER))
    assert not receiver.policy.received


def test_more_contexts_than_one_association_may_propose(receiver: Edge, study: list[Outgoing]) -> None:
    """They use several associations, and all arrive."""
    many = [replace(study[0], transfer_syntax_uid=f"1.2.3.{number}") for number in range(200)]
    assert all(sent.accepted for sent in send(many, receiver.peer, MANNER))
    assert len(receiver.policy.received) == 200
    assert len(receiver.policy.requestors) == 2


def test_dcmtk_accepts_generated_studies(processes: Processes, tmp_path: Path) -> None:
    """DCMTK's storescp stores a generated study of every modality."""
    port = _free_port()
    folder = tmp_path / "stored"
    folder.mkdir()
    scp = processes.start(dcmtk("storescp"), "-od", folder, str(port))
    scp.wait_for_port(port)
    done = _run(
        "--port", str(port), "--generate", "2", "--instances", "3", "--modality", "MR", "--associations", "2"
    )
    assert done.returncode == 0, done.stderr
    assert "6 sent, 6 accepted, 0 failed" in done.stdout
    stored = [pydicom.dcmread(path) for path in folder.iterdir()]
    assert len(stored) == 6
    assert len({instance.StudyInstanceUID for instance in stored}) == 2


# ---- the command -------------------------------------------------------------------------------------


def _run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python sender_simulator.py`, which is the same as `mini-pacs send`."""
    return subprocess.run(
        [sys.executable, REPOSITORY / "sender_simulator.py", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", **environment},
    )


def test_the_command_reports_refusals_as_json(receiver: Edge, study: list[Outgoing]) -> None:
    """Exit code 1, each failure with its status, and the skipped files of a folder."""
    (study[0].path.parent / "readme.txt").write_text("no DICOM")
    receiver.policy.answer = lambda received: (
        (0xC000, "no good") if received.request.sop_instance_uid == study[0].sop_instance_uid else (0, "")
    )
    done = _run("--port", str(receiver.port), "--called-aet", "EDGE", "--json", str(study[0].path.parent))
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert (report["sent"], report["accepted"], report["failed"]) == (6, 5, 1)
    (failure,) = report["failures"]
    assert (failure["status"], failure["comment"]) == ("0xC000", "no good")
    assert failure["path"] == str(study[0].path)
    assert [skipped["named"] for skipped in report["skipped"]] == [False]
    assert receiver.policy.requestors[0].calling_ae_title == "ORTHANC"


def test_a_rejection_says_what_to_do(receiver: Edge) -> None:
    """Exit code 3 and the key of config.yaml to change."""
    receiver.policy.rejection = STRANGER
    done = _run("--port", str(receiver.port), "--calling-aet", "STRANGER", "--generate", "1")
    assert done.returncode == 3
    assert "STRANGER" in done.stderr
    assert "edge.allowed_calling_aets" in done.stderr


def test_an_unreachable_peer_is_named() -> None:
    """Exit code 3, host and port."""
    port = _free_port()
    done = _run("--port", str(port), "--generate", "1", "--json")
    assert done.returncode == 3
    assert f"127.0.0.1:{port}" in done.stderr
    assert json.loads(done.stdout)["exit_code"] == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "nothing to send"),
        (("--generate", "1", "--study-uid", "1.a"), "--study-uid"),
        (("--generate", "2", "--sop-uid", "1.2"), "--sop-uid"),
        (("--generate", "1", "--instances", "2", "--sop-uid", "1.2"), "--sop-uid"),
        (("--generate", "2", "--study-uid", "1.2"), "use --generate 1 --instances"),
        (("--generate", "2", "--series-uid", "1.2"), "use --generate 1 --instances"),
        (("README.md", "--burst", "0"), "--burst"),
        (("--generate", "1", "--modality", "XX"), "modality"),
        (("--generate", "1", "--calling-aet", "A" * 17), "--calling-aet"),
        (("--instances", "3", "README.md"), "--instances"),
        (("--seq-from-db", "README.md"), "--seq-from-db"),
        (("/nowhere/at/all",), "does not exist"),
        (("README.md",), "no DICOM file"),
        (("--generate", "1", "--priority", "urgent"), "--priority"),
        (("--generate", "1", "--timeout", "inf"), "--timeout"),
        (("--generate", "1", "--delay-ms", "inf"), "--delay-ms"),
        (("--generate", "1", "--patient-name", os.fsdecode(b"A\xff")), "--patient-name"),
    ],
)
def test_invalid_options_are_a_usage_error(words: tuple[str, ...], sentence: str) -> None:
    """Exit code 2, nothing is sent, and the message names the option."""
    done = _run(*(str(REPOSITORY / word) if word == "README.md" else word for word in words))
    assert done.returncode == 2, done.stdout
    assert sentence in done.stderr


def test_studies_are_numbered_from_the_database(receiver: Edge, database_url: str) -> None:
    """Each study gets the next number, and no two runs the same."""
    words = ("--port", str(receiver.port), "--generate", "2", "--instances", "2", "--modality", "NM")
    for _ in range(2):
        done = _run(
            *words, "--seq-from-db", "--seq-width", "4", "--patient-id", "WARD", DATABASE_URL=database_url
        )
        assert done.returncode == 0, done.stderr
    received = [pydicom.dcmread(BytesIO(r.data), force=True) for r in receiver.policy.received]
    patients = [str(instance.PatientID) for instance in received]
    assert patients == [f"WARD{number:04d}" for number in (1, 1, 2, 2, 3, 3, 4, 4)]
    assert [instance.AccessionNumber for instance in received[::2]] == [
        f"EDGE{number:04d}" for number in (1, 2, 3, 4)
    ]


SEEDS_COMMAND = (
    "--generate 3 --seq-from-db --patient-id EDGE --patient-name TEST^EDGE"
    " --series-description SYNTHETIC --calling-aet ORTHANC"
)


def test_the_seeds_command_makes_a_numbered_study_of_each(receiver: Edge, database_url: str) -> None:
    """Three studies with a number each, in text and as JSON; patients differ."""
    words = SEEDS_COMMAND.split()
    done = _run("--port", str(receiver.port), *words, DATABASE_URL=database_url)
    assert done.returncode == 0, done.stderr
    received = [pydicom.dcmread(BytesIO(r.data), force=True) for r in receiver.policy.received]
    studies = {str(instance.StudyInstanceUID): str(instance.AccessionNumber) for instance in received}
    assert sorted(studies.values()) == ["EDGE000001", "EDGE000002", "EDGE000003"]
    assert {str(instance.PatientID) for instance in received} == set(studies.values())
    assert {str(instance.PatientName) for instance in received} == {"TEST^EDGE"}
    assert {instance.SeriesDescription for instance in received} == {"SYNTHETIC"}
    for study, number in studies.items():
        assert f"study {study}: 1 accepted, number {number}" in done.stdout
    assert "numbers: EDGE000001 to EDGE000003" in done.stdout
    told = _run("--port", str(receiver.port), "--json", *words, DATABASE_URL=database_url)
    report = json.loads(told.stdout)
    assert sorted(report["numbers"].values()) == ["EDGE000004", "EDGE000005", "EDGE000006"]
    assert sorted(report["numbers"]) == sorted(report["studies"])


def test_a_burst_repeats_everything(receiver: Edge, study: list[Outgoing], tmp_path: Path) -> None:
    """The same instances each time; with --rewrite-uids new ones."""
    folder = str(study[0].path.parent)
    for words, distinct in ((("--burst", "3"), 6), (("--burst", "3", "--rewrite-uids"), 18)):
        receiver.policy.received.clear()
        done = _run("--port", str(receiver.port), folder, *words, TMPDIR=str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert "18 sent, 18 accepted, 0 failed" in done.stdout
        uids = {received.request.sop_instance_uid for received in receiver.policy.received}
        assert (len(receiver.policy.received), len(uids)) == (18, distinct)


def test_without_a_database_numbering_is_a_clear_error() -> None:
    """Exit code 3, and nothing is sent."""
    dead = f"postgresql://127.0.0.1:{_free_port()}/none"
    done = _run("--generate", "1", "--seq-from-db", DATABASE_URL=dead)
    assert done.returncode == 3
    assert "PostgreSQL" in done.stderr


def test_out_dir_keeps_generated_and_rewritten_instances(receiver: Edge, tmp_path: Path) -> None:
    """--out-dir has what was sent; these files can be sent again, byte for byte."""
    kept = tmp_path / "kept"
    first = _run("--port", str(receiver.port), "--generate", "2", "--modality", "US", "--out-dir", str(kept))
    again = _run("--port", str(receiver.port), str(kept))
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    data = [bytes(received.data) for received in receiver.policy.received]
    assert sorted(data[:2]) == sorted(data[2:])


def _abort(_received: Received) -> tuple[int, str]:
    raise AbortAssociation
