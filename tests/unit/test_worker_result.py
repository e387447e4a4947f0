"""The result that the worker application derives: a Secondary Capture with the same bytes each time."""

import warnings
import zlib
from collections.abc import Callable
from datetime import datetime
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from gateway.sender.generate import Study, generate
from worker_app import picture
from worker_app.result import derive, derived_uid, encoded
from worker_app.source import NoPictureError, Source, UnreadableError, read


def _ct(**changes: object) -> Dataset:
    study = Study(
        instances=1,
        when=datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001  DICOM's dates have no zone
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.3.1",
        sop_instance_uid="1.2.3.1.1",
        patient_id="P1",
    )
    (instance,) = generate(study)
    _set(instance, **changes)
    return instance


def _set(instance: Dataset, **changes: object) -> None:
    for keyword, value in changes.items():
        setattr(instance, keyword, value)


def _source(instance: Dataset) -> Source:
    file = BytesIO()
    instance.save_as(file, enforce_file_format=True)
    return read(file, str(instance.file_meta.TransferSyntaxUID))


def _decoded(result: Dataset) -> Dataset:
    file = BytesIO()
    result.file_meta.MediaStorageSOPClassUID = result.SOPClassUID
    result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    result.save_as(file, enforce_file_format=True)
    file.seek(0)
    return dcmread(file)


def test_the_same_source_gives_the_same_bytes() -> None:
    """G4: a repeat is a duplicate for the edge, whenever it is derived."""
    assert encoded(derive(_source(_ct()), "APP01")) == encoded(derive(_source(_ct()), "APP01"))


def test_another_worker_or_source_gives_another_result() -> None:
    """Results of two workers for one source are separate instances."""
    uids = {
        str(derive(_source(instance), title).SOPInstanceUID)
        for instance in (_ct(), _ct(SOPInstanceUID="1.2.3.1.2"))
        for title in ("APP01", "APP02")
    }
    assert len(uids) == 4


def test_a_derived_uid_is_a_fixed_value() -> None:
    """It must not change between releases, or the edge would take repeats for new instances."""
    uid = derived_uid("instance", "1.2.3", "APP01")
    assert uid == "2.25.171694094170018742186375234974708534364"
    assert len(uid) <= 64


def test_results_of_one_worker_in_one_study_are_one_series() -> None:
    """Another study or worker has another series."""
    first, second = (derive(_source(_ct(SOPInstanceUID=uid)), "APP01") for uid in ("1.2.3.1.1", "1.2.3.1.2"))
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert derive(_source(_ct()), "APP02").SeriesInstanceUID != first.SeriesInstanceUID
    assert (first.SeriesNumber, derive(_source(_ct()), "APP02").SeriesNumber) == (9001, 9002)


def test_the_result_belongs_to_the_study_and_references_its_source() -> None:
    """The edge correlates by the reference, the PACS files it by study and patient."""
    instance = _ct()
    result = _decoded(derive(_source(instance), "APP01"))
    assert result.SOPClassUID == SecondaryCaptureImageStorage
    assert result.SeriesDescription == "AI_RESULT"
    assert result.Modality == "OT"
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "StudyDate", "StudyTime", "StudyID"):
        assert result[keyword].value == instance[keyword].value
    (reference,) = result.SourceImageSequence
    assert reference.ReferencedSOPClassUID == instance.SOPClassUID
    assert reference.ReferencedSOPInstanceUID == instance.SOPInstanceUID
    assert result.SeriesInstanceUID != instance.SeriesInstanceUID
    assert result.pixel_array.shape == (result.Rows, result.Columns, 3)


@pytest.mark.parametrize("character_set", ["ISO_IR 192", None, "ISO_IR 999", ["", "ISO 2022 IR 149"]])
def test_text_that_cannot_be_decoded_is_copied_byte_for_byte(character_set: str | list[str] | None) -> None:
    """The worker never decodes a patient's name."""
    raw = b"\xff\xfe\x1b$)C\xb1\xe8\xff"
    instance = _ct(PatientName="X" * len(raw))
    if character_set is None:
        del instance.SpecificCharacterSet
    file = BytesIO()
    instance.save_as(file, enforce_file_format=True)
    content = file.getvalue().replace(b"X" * len(raw), raw)
    if character_set is not None:
        # Written after the text, which pydicom would refuse to encode in it.
        value = character_set if isinstance(character_set, str) else "\\".join(character_set)
        padded = value.encode().ljust(len(value) + len(value) % 2)
        old = b"\x08\0\x05\0CS\x0a\0ISO_IR 192"
        content = content.replace(old, old[:6] + len(padded).to_bytes(2, "little") + padded)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as the process does
        result = encoded(derive(read(BytesIO(content), ExplicitVRLittleEndian), "APP01"))
    assert raw in result


def test_the_picture_shows_the_frame_and_the_mark() -> None:
    """The windowed frame is in the same place; the label has the worker's colour."""
    drawn = picture.draw(_source(_ct()), "APP01")
    frame = drawn[:512, :512]
    assert drawn.shape == (512 + picture.CAPTION_HEIGHT, 512, 3)
    middle = frame[150:400, 100:400]
    assert middle.std() > 30
    assert (middle[..., 0] == middle[..., 1]).all()
    colour = np.array(picture._colour("APP01"))
    label = (frame[14:38, 14:150] == colour).all(axis=-1)
    assert label.mean() > 0.5


def test_without_pixels_the_picture_is_a_panel() -> None:
    """An SR has no frame; the panel still shows what the result belongs to."""
    report = Dataset()
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
    report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    report.StudyInstanceUID, report.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    source = _source(report)
    with pytest.raises(NoPictureError, match="no pixel data"):
        source.first_frame()
    assert picture.draw(source, "APP01").shape == (512, 512, 3)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda instance: _set(instance, PixelData=instance.PixelData[:1000]),
        lambda instance: _set(instance, BitsAllocated=7),
        lambda instance: _set(instance, Rows=60_000, Columns=60_000),
        lambda instance: instance.__delitem__("PixelData"),
    ],
)
def test_pixels_that_cannot_be_decoded_give_a_panel(spoil: Callable[[Dataset], None]) -> None:
    """Broken, absurd or absent pixels prevent no result and fill no memory."""
    instance = _ct()
    spoil(instance)
    assert picture.draw(_source(instance), "APP01").shape == (512, 512, 3)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SOPInstanceUID", "SOPClassUID"])
def test_without_its_uids_an_instance_is_unreadable(keyword: str) -> None:
    """Its result could not name its source."""
    instance = _ct()
    file = BytesIO()
    instance.save_as(file, enforce_file_format=True)
    file.seek(0)
    spoilt = dcmread(file)
    del spoilt[keyword]
    again = BytesIO()
    spoilt.save_as(again)
    with pytest.raises(UnreadableError, match=keyword):
        read(again, ExplicitVRLittleEndian)


def test_a_deflated_bomb_is_inflated_only_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few KiB that inflate without end must not fill the memory; the inflated part is used."""
    monkeypatch.setattr("worker_app.source.MAX_INFLATED_BYTES", 1 << 20)
    instance = _ct()
    file = BytesIO()
    instance.save_as(file, enforce_file_format=True)
    content = file.getvalue()
    meta_length = 144 + int.from_bytes(content[140:144], "little")
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = deflater.compress(content[meta_length:]) + deflater.compress(bytes(200 << 20)) + deflater.flush()
    source = read(BytesIO(content[:meta_length] + bomb), DeflatedExplicitVRLittleEndian)
    assert source.sop_instance_uid == instance.SOPInstanceUID
    assert source.file.seek(0, 2) < 4 << 20
    assert picture.draw(source, "APP01").shape == (512 + picture.CAPTION_HEIGHT, 512, 3)


def test_monochrome1_is_shown_inverted() -> None:
    """Bright values are shown dark: PS3.3 §C.7.6.3.1.2."""
    plain, inverted = _ct(), _ct(PhotometricInterpretation="MONOCHROME1")
    difference = 255 - picture.eight_bit(plain.pixel_array, plain).astype(int)
    assert np.abs(difference - picture.eight_bit(inverted.pixel_array, inverted)).max() <= 1


def test_a_window_that_shows_nothing_is_not_used() -> None:
    """The picture would be one white square."""
    instance = _ct(WindowCenter=-30_000, WindowWidth=1)
    assert picture.eight_bit(instance.pixel_array, instance).std() > 20
