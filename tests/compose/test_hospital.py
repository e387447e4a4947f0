"""The profile hospital: two archives, rules that send a mammogram nowhere, and two applications.

`chest-ct` has two replicas and gets whole series, `any-mr` gets whole studies.
"""

import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid
from support.compose_lab import BUILD_SECONDS, HEALTHY_SECONDS, HOSPITAL, ComposeLab, Modality, wait_until

from gateway.dicom.association import PeerAddress
from gateway.sender.generate import Study, generate, write
from gateway.sender.send import SendOptions, send

PROFILE = ("--env-file", "hospital.env")
OWED = (
    "SELECT d.route || ' ' || d.target, d.state, coalesce(d.destination, '') FROM deliveries d"
    " JOIN instances i ON i.id = d.instance_id WHERE i.kind = '{kind}' AND i.study_instance_uid = '{study}'"
)
UNITS = (
    "SELECT u.application, u.unit, u.state, u.worker,"
    " (SELECT count(*) FROM deliveries d WHERE d.unit_id = u.id AND d.destination = u.worker)"
    " FROM units u WHERE u.study_instance_uid = '{study}' ORDER BY u.worker"
)
"""Each series or study that an application got, and how many instances its worker got."""
STATISTICS = (
    "exec 3<>/dev/tcp/127.0.0.1/8042;"
    " printf 'GET /statistics HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3; cat <&3"
)
OWED_TO_NOBODY = "SELECT id FROM deliveries WHERE route = 'archives' AND state = 'pending'"
ARCHIVES = {"pacs ORTHANC", "archives VNA"}


@pytest.fixture(scope="module")
def hospital(lab: ComposeLab) -> Iterator[ComposeLab]:
    """Yield the lab with the configuration, the archive and the actors of the profile."""
    lab.compose(*PROFILE, "up", "--detach", timeout=BUILD_SECONDS)
    lab.wait_well()
    try:
        yield lab
    finally:
        lab.compose(*PROFILE, "rm", "--stop", "--force", *HOSPITAL)
        lab.compose("up", "--detach", timeout=BUILD_SECONDS)
        # A worker may return more of its series after the first result has answered for all. What came for
        # the second archive after it was removed is given up, as an operator does it.
        if lab.rows(OWED_TO_NOBODY):
            lab.cli("deliveries", "cancel", "--route", "archives", "--yes")
        lab.wait_well()


def send_study(lab: ComposeLab, count: int, *, modality: str, calling: str, series: int = 1) -> str:
    """Send a generated study with this Modality and so many series, all of it accepted; return its UID."""
    kind: Modality = "MR" if modality == "MR" else "CT"
    with tempfile.TemporaryDirectory() as folder:
        outgoing = [write(one, Path(folder)) for one in generate(Study(count, datetime.now(UTC), kind))]
        uids = [generate_uid() for _ in range(series)]
        for number, path in enumerate(sorted(Path(folder).rglob("*.dcm"))):
            data_set = pydicom.dcmread(path)
            data_set.Modality = modality
            data_set.SeriesInstanceUID = uids[number % series]
            data_set.save_as(path)
        peer = PeerAddress("127.0.0.1", lab.edge_port, "MINI_EDGE", 30, 10)
        sent = list(send(outgoing, peer, SendOptions(calling)))
    assert [one.status for one in sent] == [0] * count
    [study] = {one.instance.study_instance_uid for one in sent}
    return study


def owed(lab: ComposeLab, study: str, kind: str = "original") -> list[list[str]]:
    """Return target, state and destination of each delivery of a study."""
    return lab.rows(OWED.format(study=study, kind=kind))


def units(lab: ComposeLab, study: str) -> list[list[str]]:
    """Return application, kind, state, worker and number of instances of each unit of a study."""
    return lab.rows(UNITS.format(study=study))


def wait_answered(lab: ComposeLab, study: str, count: int) -> list[list[str]]:
    """Wait until so many units of a study are answered; return them."""
    wait_until(
        lambda: [row[2] for row in units(lab, study)] == ["answered"] * count,
        HEALTHY_SECONDS,
        f"{count} answered units",
    )
    return units(lab, study)


def stored_in_vna(lab: ComposeLab) -> int:
    """Return how many instances the second archive holds, by its own REST API."""
    answer = lab.exec("vna", "bash", "-c", STATISTICS).stdout
    return int(json.loads(answer[answer.index("{") :])["CountInstances"])


@pytest.mark.parametrize(
    ("modality", "application", "workers"),
    [("CT", "workers chest-ct", {"APP01", "APP02"}), ("MR", "workers any-mr", {"APP03"})],
)
def test_an_image_goes_to_both_archives_and_to_its_application(
    hospital: ComposeLab, modality: str, application: str, workers: set[str]
) -> None:
    """So do its results, except that they go to no application."""
    before = stored_in_vna(hospital)
    study = send_study(hospital, 3, modality=modality, calling=f"{modality}1")

    def is_done() -> bool:
        rows = [*owed(hospital, study), *owed(hospital, study, "result")]
        results = {row[0] for row in rows if row[1] == "delivered"}
        return (
            len(owed(hospital, study, "result")) == 6
            and len(rows) == 15
            and results >= ARCHIVES
            and all(row[1] == "delivered" for row in rows)
        )

    wait_until(is_done, HEALTHY_SECONDS, "originals and results at both archives")
    assert {row[0] for row in owed(hospital, study)} == ARCHIVES | {application}
    assert {row[2] for row in owed(hospital, study) if row[0] == application} <= workers
    assert {row[0] for row in owed(hospital, study, "result")} == ARCHIVES
    assert stored_in_vna(hospital) - before >= 6  # and perhaps a late result of an earlier study
    assert len(hospital.held(study)) == 6


def test_each_series_goes_whole_to_one_replica_in_turn(hospital: ComposeLab) -> None:
    """Two series of one study: one for each replica of chest-ct, each answered by one result series."""
    study = send_study(hospital, 6, modality="CT", calling="CT1", series=2)
    assert wait_answered(hospital, study, 2) == [
        ["chest-ct", "series", "answered", worker, "3"] for worker in ("APP01", "APP02")
    ]


def test_a_study_goes_whole_to_one_worker(hospital: ComposeLab) -> None:
    """Both of its series, in one unit."""
    study = send_study(hospital, 6, modality="MR", calling="MR1", series=2)
    assert wait_answered(hospital, study, 1) == [["any-mr", "study", "answered", "APP03", "6"]]


def test_a_series_goes_to_the_other_replica_if_one_is_stopped(hospital: ComposeLab) -> None:
    """It is sent whole there, and answered."""
    hospital.compose(*PROFILE, "stop", "app01")
    try:
        study = send_study(hospital, 3, modality="CT", calling="CT1")
        assert wait_answered(hospital, study, 1) == [["chest-ct", "series", "answered", "APP02", "3"]]
    finally:
        hospital.compose(*PROFILE, "start", "app01")


def test_an_operator_ends_the_wait_of_a_series(hospital: ComposeLab) -> None:
    """`studies complete`: it is sent at once, and the row says who asked for it."""
    study = send_study(hospital, 2, modality="CT", calling="CT1")
    hospital.cli("studies", "complete", study)
    [unit] = wait_answered(hospital, study, 1)
    assert unit[-1] == "2"
    [[by]] = hospital.rows(f"SELECT completed_by FROM units WHERE study_instance_uid = '{study}'")  # noqa: S608
    assert by not in {"quiet", "max_wait"}


def test_a_mammogram_goes_nowhere(hospital: ComposeLab) -> None:
    """It is answered Success, kept, and owed to nobody; a CT that comes after it is delivered."""
    study = send_study(hospital, 2, modality="MG", calling="MG1")
    after = send_study(hospital, 1, modality="CT", calling="CT1")
    wait_until(
        lambda: {row[1] for row in owed(hospital, after)} == {"delivered"},
        HEALTHY_SECONDS,
        "the CT to arrive",
    )
    assert hospital.rows(f"SELECT count(*) FROM instances WHERE study_instance_uid = '{study}'") == [["2"]]  # noqa: S608
    assert owed(hospital, study) == []
    assert hospital.held(study) == set()


def test_an_archive_that_is_stopped_delays_nothing_else(hospital: ComposeLab) -> None:
    """What waits for it is sent when it is back."""
    hospital.compose(*PROFILE, "stop", "vna")
    study = send_study(hospital, 2, modality="CT", calling="CT1")

    def states() -> dict[str, set[str]]:
        rows = owed(hospital, study)
        return {target: {row[1] for row in rows if row[0] == target} for target in {row[0] for row in rows}}

    wait_until(
        lambda: (
            {target for target, found in states().items() if found == {"delivered"}}
            == {"pacs ORTHANC", "workers chest-ct"}
        ),
        HEALTHY_SECONDS,
        "the PACS and the application to have it",
    )
    assert not states()["archives VNA"] & {"delivered", "dead"}
    hospital.compose(*PROFILE, "start", "vna")
    wait_until(
        lambda: states()["archives VNA"] == {"delivered"}, HEALTHY_SECONDS, "the second archive to have it"
    )
