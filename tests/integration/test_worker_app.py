"""The worker application as a real process, between our SCU and an acceptor in place of the edge."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from support.dicom_peers import DEADLINE_SECONDS, ECHO, Edge, edge
from support.launcher import Process, Processes
from support.waiting import wait_until

from gateway.dicom.association import Association, PeerAddress
from gateway.dicom.contexts import ProposedContext
from gateway.dicom.policy import CALLING_AE_TITLE_NOT_RECOGNIZED, AbortAssociation
from gateway.dicom.requestor import associate
from gateway.errors import AssociationRejectedError
from gateway.sender.collect import collect
from gateway.sender.generate import Study, generate, write
from gateway.sender.outgoing import Outgoing
from worker_app import result, source

WHEN = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001  DICOM's dates have no zone
TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
PATIENT = "Secret^Name"


@pytest.fixture
def gateway() -> Iterator[Edge]:
    """Yield the acceptor that gets the results."""
    with edge() as running:
        yield running


@pytest.fixture
def instance(tmp_path: Path) -> Outgoing:
    """Return a small instance of a patient whose name must not be in any log."""
    study = Study(instances=1, when=WHEN, modality="NM", patient_name=PATIENT, patient_id="SECRET-ID")
    return write(next(generate(study)), tmp_path / "study")


class Worker:
    """A running worker application and its address."""

    def __init__(self, processes: Processes, gateway: Edge, **environment: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.peer = PeerAddress("127.0.0.1", port, "APP01", timeout_seconds=10, connect_timeout_seconds=10)
        self.process: Process = processes.start(
            "python",
            "-m",
            "worker_app",
            WORKER_AE_TITLE="APP01",
            WORKER_BIND_ADDRESS="127.0.0.1",
            WORKER_PORT=str(port),
            GATEWAY_PORT=str(gateway.port),
            GATEWAY_AE_TITLE="EDGE",
            **environment,
        )
        self.process.wait_for_port(port)

    @contextmanager
    def association(self, *contexts: ProposedContext) -> Iterator[Association]:
        """Yield an association of the gateway with it."""
        with associate(self.peer, calling_ae_title="EDGE", contexts=contexts) as association:
            yield association

    def store(self, instance: Outgoing) -> int:
        """Send one instance; return the answer."""
        with self.association(instance.context) as association:
            status, _ = association.store(instance.context, instance.sop_instance_uid, instance.data_set())
            return status

    def lines(self, event: str) -> list[dict[str, object]]:
        """Return the log lines of one event."""
        lines = [json.loads(line) for line in self.process.text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]


Start = Callable[..., Worker]


@pytest.fixture
def start(processes: Processes, gateway: Edge) -> Start:
    """Start a worker with the given variables."""
    return lambda **environment: Worker(processes, gateway, **environment)


def _results(gateway: Edge, count: int, timeout: float = DEADLINE_SECONDS) -> list[bytes]:
    wait_until(
        lambda: sum(received.finished for received in gateway.policy.received) >= count,
        timeout,
        f"{count} results",
    )
    return [bytes(received.data) for received in gateway.policy.received if received.finished]


def _decoded(data: bytes) -> Dataset:
    return dcmread(BytesIO(data), force=True)


def test_a_result_is_returned_and_references_its_source(
    start: Start, gateway: Edge, instance: Outgoing
) -> None:
    """A Secondary Capture of the same study, sent as APP01, with exactly the derived bytes."""
    assert start().store(instance) == 0
    (data,) = _results(gateway, 1)
    request, requestor = gateway.policy.received[0].request, gateway.policy.requestors[0]
    assert (requestor.calling_ae_title, requestor.called_ae_title) == ("APP01", "EDGE")
    assert request.sop_class_uid == SecondaryCaptureImageStorage
    decoded = _decoded(data)
    assert decoded.StudyInstanceUID == instance.study_instance_uid
    assert decoded.SOPInstanceUID == request.sop_instance_uid
    assert decoded.SourceImageSequence[0].ReferencedSOPInstanceUID == instance.sop_instance_uid
    with instance.path.open("rb") as file:
        assert data == result.encoded(result.derive(source.read(file, ExplicitVRLittleEndian), "APP01"))


def test_a_repeat_is_byte_identical(start: Start, gateway: Edge, instance: Outgoing) -> None:
    """G4: sent again, also to a restarted worker, the result has the same bytes."""
    first, second = start(), start()
    for worker in (first, first, second):
        assert worker.store(instance) == 0
    assert len(set(_results(gateway, 3))) == 1


def test_it_answers_before_it_computes_and_honours_the_delay(
    start: Start, gateway: Edge, instance: Outgoing
) -> None:
    """Success at once; the result no earlier than WORKER_DELAY_SECONDS after it."""
    worker = start(WORKER_DELAY_SECONDS="2")
    begun = time.monotonic()
    assert worker.store(instance) == 0
    assert not gateway.policy.received
    _results(gateway, 1)
    assert time.monotonic() - begun >= 2


def test_every_kind_of_instance_gets_a_result(start: Start, gateway: Edge) -> None:
    """Each SOP Class and transfer syntax of the test files is accepted, and its result has a picture."""
    files = list({file.context: file for file in collect([TEST_FILES]).instances}.values())
    worker = start()
    with worker.association(*(file.context for file in files)) as association:
        assert association.accepted == {file.context for file in files}
        for file in files:
            status, _ = association.store(file.context, file.sop_instance_uid, file.data_set())
            assert status == 0
    received = [_decoded(data) for data in _results(gateway, len(files), timeout=60)]
    assert {r.SourceImageSequence[0].ReferencedSOPInstanceUID for r in received} == {
        file.sop_instance_uid for file in files
    }
    assert all(r.Rows >= 100 and len(r.PixelData) >= r.Rows * r.Columns * 3 for r in received)


@pytest.mark.parametrize("complete", ["quiet", "association"])
def test_a_series_gets_one_result_series(start: Start, gateway: Edge, tmp_path: Path, complete: str) -> None:
    """20 instances over one association: 20 slices in order, each with its reference."""
    files = [write(one, tmp_path / "study") for one in generate(Study(20, WHEN, "NM", patient_name=PATIENT))]
    worker = start(WORKER_UNIT="series", WORKER_COMPLETE=complete, WORKER_QUIET_SECONDS="2")
    with worker.association(files[0].context) as association:
        for file in files[::-1]:
            assert association.store(file.context, file.sop_instance_uid, file.data_set())[0] == 0
        assert not gateway.policy.received
    slices = [_decoded(data) for data in _results(gateway, 20)]
    assert [one.InstanceNumber for one in slices] == list(range(1, 21))
    assert len({one.SeriesInstanceUID for one in slices}) == 1
    assert [one.SourceImageSequence[0].ReferencedSOPInstanceUID for one in slices] == [
        file.sop_instance_uid for file in files
    ]
    assert "SECRET" not in worker.process.text().upper()


@pytest.mark.parametrize("output", ["seg", "sr"])
def test_a_series_gets_a_segmentation_or_a_report(
    start: Start, gateway: Edge, tmp_path: Path, output: str
) -> None:
    """One instance, by highdicom."""
    files = [write(one, tmp_path / "study") for one in generate(Study(3, WHEN, "MR"))]
    worker = start(WORKER_UNIT="series", WORKER_COMPLETE="association", WORKER_OUTPUT=output)
    with worker.association(files[0].context) as association:
        for file in files:
            assert association.store(file.context, file.sop_instance_uid, file.data_set())[0] == 0
    (data,) = _results(gateway, 1)
    assert _decoded(data).Modality == output.upper()


def test_a_result_is_sent_until_it_is_accepted(start: Start, gateway: Edge, instance: Outgoing) -> None:
    """The edge rejects, refuses and aborts; then it accepts the result once."""
    answers = iter([(0xA700, "no space"), None])

    def answer(_: object) -> tuple[int, str]:
        following = next(answers, (0, ""))
        if following is None:
            raise AbortAssociation
        return following

    gateway.policy.answer = answer
    gateway.policy.rejection = CALLING_AE_TITLE_NOT_RECOGNIZED
    worker = start()
    assert worker.store(instance) == 0
    wait_until(lambda: worker.lines("result"), DEADLINE_SECONDS, "a first try")
    gateway.policy.rejection = None
    wait_until(
        lambda: worker.lines("result")[-1]["outcome"] == "accepted",
        2 * DEADLINE_SECONDS,
        "the result to be accepted",
    )
    assert [line["attempt"] for line in worker.lines("result")] == [1, 2, 3, 4]
    assert len(gateway.policy.received) == 3


def test_failures_can_be_configured(start: Start, gateway: Edge, instance: Outgoing) -> None:
    """WORKER_STATUS refuses every instance; WORKER_RESULTS=off accepts and returns no result."""
    refusing, silent, honest = start(WORKER_STATUS="A700"), start(WORKER_RESULTS="off"), start()
    assert refusing.store(instance) == 0xA700
    assert silent.store(instance) == 0
    assert honest.store(instance) == 0
    _results(gateway, 1)
    assert not refusing.lines("result")
    assert not silent.lines("result")
    assert len(gateway.policy.received) == 1


def test_an_unreadable_data_set_costs_only_its_own_result(
    start: Start, gateway: Edge, instance: Outgoing
) -> None:
    """It is logged; the next one is answered."""
    worker = start()
    with worker.association(instance.context) as association:
        assert association.store(instance.context, "1.2.3", [b"\x08\0\x18\0UI\xff\xff no data set"])[0] == 0
    wait_until(lambda: worker.lines("derive"), DEADLINE_SECONDS, "the failure to be logged")
    assert worker.lines("derive")[0]["sop_instance_uid"] == "1.2.3"
    assert worker.store(instance) == 0
    _results(gateway, 1)


def test_a_full_queue_answers_0xa700(start: Start, instance: Outgoing) -> None:
    """The number of waiting instances is limited; the edge tries again later."""
    worker = start(WORKER_DELAY_SECONDS="600")
    content = b"".join(instance.data_set())
    with worker.association(instance.context) as association:
        statuses = [
            association.store(instance.context, instance.sop_instance_uid, [content])[0] for _ in range(270)
        ]
    assert set(statuses) == {0x0000, 0xA700}
    assert 256 <= statuses.count(0) <= 260


def test_only_its_own_ae_title_is_answered(start: Start) -> None:
    """C-ECHO is answered; an association that calls another AE title is rejected (1/1/7)."""
    worker = start()
    with worker.association(ECHO) as association:
        assert association.echo() == 0
    wrong = PeerAddress("127.0.0.1", worker.peer.port, "APP02", timeout_seconds=5, connect_timeout_seconds=5)
    with pytest.raises(AssociationRejectedError) as rejected:
        associate(wrong, calling_ae_title="EDGE", contexts=[ECHO])
    assert (rejected.value.result, rejected.value.source, rejected.value.reason) == (1, 1, 7)


def test_it_stops_at_once(start: Start, instance: Outgoing) -> None:
    """SIGTERM ends it with exit code 0, although an association is open and work waits for ten minutes."""
    worker = start(WORKER_DELAY_SECONDS="600")
    association = associate(worker.peer, calling_ae_title="EDGE", contexts=[instance.context])
    try:
        association.store(instance.context, instance.sop_instance_uid, instance.data_set())
        worker.process.popen.terminate()
        assert worker.process.wait() == 0
    finally:
        association.abort()


def test_its_output_holds_no_patient_attribute(start: Start, gateway: Edge, instance: Outgoing) -> None:
    """G8: lines have UIDs and AE titles only."""
    worker = start()
    worker.store(instance)
    _results(gateway, 1)
    wait_until(lambda: worker.lines("result"), DEADLINE_SECONDS, "its line")
    assert instance.sop_instance_uid in worker.process.text()
    assert "SECRET" not in worker.process.text().upper()


def test_a_bad_setting_ends_it_with_code_2(processes: Processes) -> None:
    """The message names the variable."""
    process = processes.start("python", "-m", "worker_app", WORKER_AE_TITLE="APP01", WORKER_PORT="many")
    assert process.wait() == 2
    assert "WORKER_PORT='many'" in process.text()


def test_a_taken_port_ends_it_with_code_1(processes: Processes, gateway: Edge) -> None:
    """The message names the address."""
    process = processes.start(
        "python",
        "-m",
        "worker_app",
        WORKER_AE_TITLE="APP01",
        WORKER_BIND_ADDRESS="127.0.0.1",
        WORKER_PORT=str(gateway.port),
    )
    assert process.wait() == 1
    assert f"cannot listen on 127.0.0.1:{gateway.port}" in process.text()
