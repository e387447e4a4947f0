"""The results that the worker application derives of a series: slices, a segmentation, a report."""

import threading
from collections.abc import Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, SegmentationStorage
from support.headers import read as read_header

from gateway.sender.generate import Study, generate
from worker_app import result, series
from worker_app.collecting import Collector
from worker_app.settings import Complete, Output, Settings
from worker_app.waiting import WaitingInstance, Work

COUNT = 6
WHEN = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001  DICOM's dates have no zone


def _written(folder: Path, instances: Sequence[Dataset]) -> list[WaitingInstance]:
    waiting = []
    for number, instance in enumerate(instances):
        path = folder / f"{number}.dcm"
        instance.save_as(path, enforce_file_format=True)
        waiting.append(WaitingInstance(ExplicitVRLittleEndian, str(instance.SOPInstanceUID), path=path))
    return waiting


def _stack(modality: str = "MR") -> list[Dataset]:
    return list(generate(Study(COUNT, WHEN, modality)))


def _results(waiting: Sequence[WaitingInstance], output: Output = Output.IMAGES) -> list[Dataset]:
    return [one for _, one in series.results(waiting, "APP01", output, _must_not_fail)]


def _must_not_fail(_instance: WaitingInstance, error: Exception) -> None:
    raise error


def test_a_series_gives_one_series_of_as_many_slices_in_its_order(tmp_path: Path) -> None:
    """Whatever the order of arrival: one Series Instance UID, the numbers and heights of the sources."""
    stack = _stack()
    arrived = _written(tmp_path, [stack[index] for index in (3, 0, 5, 1, 4, 2)])
    slices = _results(arrived)
    assert [int(one.InstanceNumber) for one in slices] == list(range(1, COUNT + 1))
    assert len({one.SeriesInstanceUID for one in slices}) == 1
    assert slices[0].SeriesInstanceUID != stack[0].SeriesInstanceUID
    assert {one.SeriesDescription for one in slices} == {"AI_RESULT"}
    for source, one in zip(stack, slices, strict=True):
        (reference,) = one.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert one.StudyInstanceUID == source.StudyInstanceUID
        assert float(one.ImagePositionPatient[2]) == float(source.ImagePositionPatient[2])
        assert one.FrameOfReferenceUID == source.FrameOfReferenceUID


def test_the_frame_in_the_picture_lies_where_the_source_lies(tmp_path: Path) -> None:
    """The middle of the frame, which is shown twice as large, has the same position in the patient."""
    source = _stack()[0]
    (shown,) = _results(_written(tmp_path, [source]))
    middle = (source.Columns - 1) / 2
    wanted = np.array(source.ImagePositionPatient, float)[:2] + middle * np.array(source.PixelSpacing, float)
    scale = shown.Columns / source.Columns
    assert scale == 2
    found = np.array(shown.ImagePositionPatient, float)[:2]
    found += (scale * source.Columns - 1) / 2 * np.array(shown.PixelSpacing, float)
    assert np.allclose(found, wanted)


@pytest.mark.parametrize("output", Output)
def test_the_same_series_gives_the_same_bytes(tmp_path: Path, output: Output) -> None:
    """G4: also in another order of arrival, so that a repeat is a duplicate for the edge."""
    arrived = _written(tmp_path, _stack("CT"))
    first = [result.encoded(one) for one in _results(arrived, output)]
    assert [result.encoded(one) for one in _results(arrived[::-1], output)] == first


def test_further_instances_leave_the_slices_of_the_others_as_they_are(tmp_path: Path) -> None:
    """A series that is sent again with late instances repeats what was returned before."""
    arrived = _written(tmp_path, _stack())
    some = {result.encoded(one) for one in _results(arrived[:4])}
    assert some < {result.encoded(one) for one in _results(arrived)}


def test_without_numbers_the_slices_are_ordered_by_position(tmp_path: Path) -> None:
    """Slices that all have the same InstanceNumber, or none, are numbered from the feet to the head."""
    stack = _stack()
    for instance in stack:
        instance.InstanceNumber = 1
    slices = _results(_written(tmp_path, stack[::-1]))
    assert [int(one.InstanceNumber) for one in slices] == list(range(1, COUNT + 1))
    heights = [float(one.ImagePositionPatient[2]) for one in slices]
    assert heights == sorted(heights)


def test_a_slice_with_another_number_has_another_uid(tmp_path: Path) -> None:
    """Other bytes under the same UID would be a conflict for the edge."""
    stack = _stack()
    for instance in stack:
        instance.InstanceNumber = None
    arrived = _written(tmp_path, stack)
    last = {one.InstanceNumber: one.SOPInstanceUID for one in _results(arrived[1:])}
    whole = {one.InstanceNumber: one.SOPInstanceUID for one in _results(arrived)}
    assert not set(last.values()) & set(whole.values())


def test_an_unreadable_instance_costs_only_its_own_slice(tmp_path: Path) -> None:
    """The others of the series get theirs, and the failure is told."""
    arrived = _written(tmp_path, _stack())
    broken = arrived[2].path
    assert broken is not None
    broken.write_bytes(b"no DICOM")
    failed: list[str] = []
    slices = [
        one
        for _, one in series.results(
            arrived, "APP01", Output.IMAGES, lambda instance, _error: failed.append(instance.sop_instance_uid)
        )
    ]
    assert len(slices) == COUNT - 1
    assert failed == [arrived[2].sop_instance_uid]


@pytest.mark.parametrize(
    ("output", "sop_class_uid"), [(Output.SEG, SegmentationStorage), (Output.SR, ComprehensiveSRStorage)]
)
def test_a_segmentation_or_a_report_references_every_source(
    tmp_path: Path, output: Output, sop_class_uid: str
) -> None:
    """One instance; the edge finds every reference, and the values are those of the study."""
    stack = _stack("CT")
    (made,) = _results(_written(tmp_path, stack), output)
    assert made.SOPClassUID == sop_class_uid
    assert made.SeriesDescription == "AI_RESULT"
    assert (made.StudyInstanceUID, made.PatientID) == (stack[0].StudyInstanceUID, stack[0].PatientID)
    header = read_header(result.encoded(made), ExplicitVRLittleEndian, with_references=True)
    assert {str(one.SOPInstanceUID) for one in stack} <= set(header.referenced_sop_instance_uids)
    if output is Output.SEG:
        file = BytesIO()
        made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        made.save_as(file, enforce_file_format=True)
        file.seek(0)
        mask = dcmread(file).pixel_array
        assert mask.shape == (COUNT, stack[0].Rows, stack[0].Columns)
        assert 0 < mask.mean() < 0.5


def test_a_series_that_cannot_be_segmented_gets_slices(tmp_path: Path) -> None:
    """A projection has no place in space."""
    stack = _stack("CR")
    assert len(_results(_written(tmp_path, stack), Output.SEG)) == COUNT


def _collector(complete: Complete, quiet: float) -> tuple[Collector, list[Work], threading.Event]:
    settings = Settings(
        "APP01", "127.0.0.1", 1, "127.0.0.1", 1, "EDGE", 0.0, 0, True, complete=complete, quiet_seconds=quiet
    )
    works: list[Work] = []
    passed = threading.Event()

    def take(work: Work) -> None:
        works.append(work)
        passed.set()

    stopping = threading.Event()
    collector = Collector(settings, take, stopping)
    threading.Thread(target=collector.run, daemon=True).start()
    return collector, works, passed


def _instance(uid: str) -> WaitingInstance:
    return WaitingInstance(ExplicitVRLittleEndian, uid, path=Path("/nonexistent"))


def test_a_series_is_complete_after_its_quiet_time() -> None:
    """All instances of the series together; a repeat counts once."""
    collector, works, passed = _collector(Complete.QUIET, 0.5)
    for uid in ("1.1", "1.2", "1.1"):
        collector.add("1", _instance(uid), "a")
    assert passed.wait(20)
    assert [one.sop_instance_uid for one in works[0].instances] == ["1.2", "1.1"]


def test_a_series_is_complete_when_its_last_association_has_ended() -> None:
    """One that is still open may bring more; that of another series does not count."""
    collector, works, passed = _collector(Complete.ASSOCIATION, 0.0)
    collector.add("1", _instance("1.1"), "a")
    collector.add("1", _instance("1.2"), "b")
    collector.add("2", _instance("2.1"), "c")
    collector.end("a")
    collector.end("d")
    assert not works
    collector.end("b")
    assert passed.wait(20)
    assert [one.sop_instance_uid for one in works[0].instances] == ["1.1", "1.2"]
    assert len(works) == 1
