"""Generated studies: consistent UIDs, and pictures with contrast."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from gateway.dicom.contexts import storage_sop_classes
from gateway.sender.generate import MODALITIES, Study, generate, write
from gateway.sender.numbering import numbered, with_patients

WHEN = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001  DICOM's dates have no zone


def _generated(instances: int = 3, **changes: Any) -> list[Dataset]:
    return list(generate(Study(instances=instances, when=WHEN, **changes)))


def test_instances_of_one_study_belong_together() -> None:
    """One study, one series, one frame of reference; each instance has its own UID."""
    instances = _generated(5)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert len({str(instance[keyword].value) for instance in instances}) == 1
    assert len({str(instance.SOPInstanceUID) for instance in instances}) == 5


def test_slices_are_numbered_and_equally_spaced() -> None:
    """Instance numbers count, and positions increase in equal steps along the normal of the slices."""
    instances = _generated(4)
    assert [instance.InstanceNumber for instance in instances] == [1, 2, 3, 4]
    heights = [float(instance.ImagePositionPatient[2]) for instance in instances]
    assert set(np.diff(heights)) == {float(instances[0].SpacingBetweenSlices)}


@pytest.mark.parametrize("modality", sorted(MODALITIES))
def test_every_instance_of_every_modality_has_another_picture(modality: str) -> None:
    """It has contrast, and its size and depth are those of its attributes."""
    first, second = _generated(2, modality=modality)
    assert first.SOPClassUID in storage_sop_classes()
    assert first.Modality == modality
    assert first.pixel_array.shape == (first.Rows, first.Columns)
    assert first.pixel_array.std() > 0.02 * (2 ** min(first.BitsStored, 12))
    assert (first.pixel_array != second.pixel_array).mean() > 0.01


@pytest.mark.parametrize("signed", [True, False])
def test_ct_holds_hounsfield_units(signed: bool) -> None:  # noqa: FBT001  a parameter of the test
    """512 by 512 of 16 bit; air is near -1000 whether values are stored signed or not."""
    (instance,) = _generated(1, modality="CT", signed=signed)
    assert (instance.Rows, instance.Columns, instance.BitsAllocated) == (512, 512, 16)
    assert instance.PixelRepresentation == int(signed)
    units = instance.pixel_array * float(instance.RescaleSlope) + float(instance.RescaleIntercept)
    assert units[5, 5] == pytest.approx(-1000, abs=60)
    assert units.max() > 300


def test_the_same_request_gives_the_same_bytes(tmp_path: Path) -> None:
    """With given UIDs, a generated instance can be sent again as a duplicate."""
    uids = {
        "study_instance_uid": "1.2.3",
        "series_instance_uid": "1.2.3.4",
        "sop_instance_uid": "1.2.3.4.5",
    }
    first, second = (
        write(_generated(1, **uids)[0], tmp_path / name).path.read_bytes() for name in ("a", "b")
    )
    assert first == second


def test_given_values_are_used(tmp_path: Path) -> None:
    """Patient, description and UIDs are those of the request, in the file too."""
    (instance,) = _generated(
        1,
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.3.4",
        sop_instance_uid="1.2.3.4.5",
        patient_id="P7",
        patient_name="Núñez^Ana",
        series_description="Thorax",
    )
    outgoing = write(instance, tmp_path)
    read = dcmread(outgoing.path)
    assert (outgoing.study_instance_uid, outgoing.sop_instance_uid) == ("1.2.3", "1.2.3.4.5")
    assert (read.PatientID, str(read.PatientName), read.SeriesDescription) == ("P7", "Núñez^Ana", "Thorax")


def test_an_impossible_request_is_refused() -> None:
    """An unknown modality names the known ones; one SOP Instance UID is for one instance."""
    with pytest.raises(ValueError, match="CT, MR"):
        _generated(1, modality="XX")
    with pytest.raises(ValueError, match="one instance"):
        _generated(2, sop_instance_uid="1.2.3")


def test_studies_are_numbered_with_leading_zeros() -> None:
    """EDGE000001 in PatientID, AccessionNumber and StudyID; the PatientID may have a prefix of its own."""
    studies = [Study(instances=1, when=WHEN), Study(instances=2, when=WHEN)]
    first, second = numbered(
        studies, lambda count: range(41, 41 + count), 6, patient_prefix=None, patient_name=None
    )
    assert (first.patient_id, first.number) == ("EDGE000041", "EDGE000041")
    assert second.number == "EDGE000042"
    assert second.instances == 2
    assert first.patient_name != second.patient_name
    (other,) = numbered(studies[:1], lambda _: [7], 3, patient_prefix="WARD", patient_name="TEST^EDGE")
    assert (other.patient_id, other.number, other.patient_name) == ("WARD007", "EDGE007", "TEST^EDGE")
    (instance, *_) = generate(first)
    assert (instance.StudyID, instance.AccessionNumber) == ("EDGE000041", "EDGE000041")


def test_studies_without_a_number_are_of_different_patients() -> None:
    """No two studies share PatientID or PatientName, in one run or two; all values fit their VR."""
    studies = [Study(instances=1, when=WHEN) for _ in range(12)]
    made = [
        next(generate(study))
        for run in ("0A1B2C", "FFFFFF")
        for study in with_patients(studies, run, patient_id=None, patient_name=None)
    ]
    for keyword in ("PatientID", "PatientName", "StudyID", "StudyDescription"):
        assert len({str(instance[keyword].value) for instance in made}) == len(made)
    assert all(len(instance.StudyID) <= 16 for instance in made)  # SH: PS3.5 §6.2


def test_the_studies_of_a_given_patient_differ() -> None:
    """PatientID and PatientName are as given; StudyID and StudyDescription differ."""
    studies = [Study(instances=1, when=WHEN) for _ in range(3)]
    made = [
        next(generate(study))
        for study in with_patients(studies, "0A1B2C", patient_id="P7", patient_name="Doe^Jane")
    ]
    assert {(instance.PatientID, str(instance.PatientName)) for instance in made} == {("P7", "Doe^Jane")}
    assert len({instance.StudyID for instance in made}) == 3
    assert len({instance.StudyDescription for instance in made}) == 3
