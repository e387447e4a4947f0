"""The sender: from paths to instances, and from instances to the same ones with other UIDs."""

import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset, dcmread

from gateway.dicom.contexts import MAX_CONTEXTS
from gateway.sender.collect import Skipped, collect, read
from gateway.sender.generate import Study, generate, write
from gateway.sender.outgoing import Outgoing
from gateway.sender.prepare import SendRequest, prepare
from gateway.sender.rewrite import Edits, rewrite
from gateway.sender.send import batches

TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
WHEN = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001  DICOM's dates have no zone


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where originals are."""
    return tmp_path / "originals"


@pytest.fixture
def study(folder: Path) -> list[Outgoing]:
    """Three MR instances of one study, the third referencing the first and an instance from elsewhere."""
    instances = list(generate(Study(instances=3, when=WHEN, modality="MR")))
    references = []
    for uid in (instances[0].SOPInstanceUID, "1.2.999"):
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = instances[0].SOPClassUID, uid
        references.append(reference)
    instances[2].SourceImageSequence = references
    return [write(instance, folder) for instance in instances]


def _rewritten(instances: list[Outgoing], edits: Edits, folder: Path) -> Iterator[Outgoing]:
    for outgoing in rewrite(instances, edits, folder):
        assert isinstance(outgoing, Outgoing), outgoing
        yield outgoing


def _read(path: Path) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(path)


# ---- collect -----------------------------------------------------------------------------------------


def test_folders_are_searched_and_other_files_skipped_with_a_reason(
    study: list[Outgoing], folder: Path
) -> None:
    """Such a file does not stop the rest; a file that the user named is reported differently."""
    (folder / "deeper").mkdir()
    (folder / "deeper" / "notes.txt").write_text("no DICOM")
    collection = collect([folder, folder / "deeper" / "notes.txt", folder / "missing.dcm"])
    assert {found.sop_instance_uid for found in collection.instances} == {i.sop_instance_uid for i in study}
    assert [(skipped.path.name, skipped.named) for skipped in collection.skipped] == [
        ("notes.txt", False),
        ("notes.txt", True),
        ("missing.dcm", True),
    ]
    assert "no DICOM file" in collection.skipped[0].reason
    assert "No such file" in collection.skipped[2].reason


def test_sendable_files_are_selected() -> None:
    """Those with all UIDs and a patient-related Storage SOP Class; a DICOMDIR is not sendable."""
    collection = collect([TEST_FILES])
    assert len(collection.instances) > 100
    assert {"no SOPClassUID", "no StudyInstanceUID"} <= {skipped.reason for skipped in collection.skipped}
    assert not any("DICOMDIR" in found.path.name for found in collection.instances)


def test_the_data_set_is_that_of_the_file() -> None:
    """Byte for byte the bytes behind the File Meta Information, deflated or not."""
    for name in ("CT_small.dcm", "image_dfl.dcm", "MR_small_bigendian.dcm"):
        path = TEST_FILES / name
        content = path.read_bytes()
        begin = 144 + int.from_bytes(content[140:144], "little")
        outgoing = read(path)
        assert b"".join(outgoing.data_set()) == content[begin:]
        assert outgoing.size == len(content) - begin


# ---- rewrite -----------------------------------------------------------------------------------------


def test_without_edits_nothing_is_rewritten(study: list[Outgoing], folder: Path, tmp_path: Path) -> None:
    """Files are sent as they are."""
    prepared = list(prepare(SendRequest([folder], Edits(), ()), tmp_path / "out"))
    assert {p.path for p in prepared} == {i.path for i in study}
    assert not (tmp_path / "out").exists()


def test_new_uids_keep_the_structure_of_studies(study: list[Outgoing], tmp_path: Path) -> None:
    """New study, series, instances and frame of reference, shared as before; pixels are unchanged."""
    new = list(_rewritten(study, Edits(new_uids=True), tmp_path))
    before, after = [_read(i.path) for i in study], [_read(i.path) for i in new]
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({str(d[keyword].value) for d in after}) == 1
        assert after[0][keyword].value != before[0][keyword].value
    assert not {i.sop_instance_uid for i in new} & {i.sop_instance_uid for i in study}
    assert [d.PixelData for d in after] == [d.PixelData for d in before]
    assert [d.file_meta.MediaStorageSOPInstanceUID for d in after] == [d.SOPInstanceUID for d in after]
    assert [i.origin for i in new] == [i.path for i in study]


def test_references_to_sent_instances_get_their_new_uids(study: list[Outgoing], tmp_path: Path) -> None:
    """A reference to an instance that is not sent stays."""
    new = list(_rewritten(study, Edits(new_uids=True), tmp_path))
    known, stranger = _read(new[2].path).SourceImageSequence
    assert known.ReferencedSOPInstanceUID == new[0].sop_instance_uid
    assert stranger.ReferencedSOPInstanceUID == "1.2.999"


def test_files_that_share_a_uid_become_different_instances(study: list[Outgoing], tmp_path: Path) -> None:
    """Each file gets a SOP Instance UID of its own."""
    new = list(_rewritten([study[0], study[0]], Edits(new_uids=True), tmp_path))
    assert new[0].sop_instance_uid != new[1].sop_instance_uid
    assert new[0].study_instance_uid == new[1].study_instance_uid


def test_a_study_per_file_on_request(study: list[Outgoing], tmp_path: Path) -> None:
    """No two files share a study."""
    new = list(_rewritten(study, Edits(new_uids=True, per_file=True), tmp_path))
    assert len({i.study_instance_uid for i in new}) == len({i.series_instance_uid for i in new}) == 3


def test_given_values_are_set_and_the_rest_stays(study: list[Outgoing], tmp_path: Path) -> None:
    """Another study and patient change these attributes only."""
    edits = Edits(study_instance_uid="1.2.3", attributes={"PatientID": "P9"})
    for old, new in zip(study, _rewritten(study, edits, tmp_path), strict=True):
        content = _read(new.path)
        assert (new.study_instance_uid, content.PatientID) == ("1.2.3", "P9")
        assert (new.series_instance_uid, new.sop_instance_uid) == (
            old.series_instance_uid,
            old.sop_instance_uid,
        )


def test_one_sop_instance_uid_is_for_one_instance(study: list[Outgoing], tmp_path: Path) -> None:
    """It is refused for several instances; for one it is set."""
    edits = Edits(sop_instance_uid="1.2.3")
    with pytest.raises(ValueError, match="one instance"):
        list(rewrite(study, edits, tmp_path))
    (only,) = _rewritten(study[:1], edits, tmp_path)
    assert only.sop_instance_uid == "1.2.3"


def test_every_sendable_test_file_can_be_rewritten(tmp_path: Path) -> None:
    """In its own transfer syntax, with all UIDs new and distinct, and of even length (PS3.8 §9.3.5)."""
    originals = collect([TEST_FILES]).instances
    new = list(_rewritten(list(originals), Edits(new_uids=True), tmp_path))
    assert len({i.sop_instance_uid for i in new}) == len(new) == len(originals)
    for old, outgoing in zip(originals, new, strict=True):
        assert outgoing.transfer_syntax_uid == old.transfer_syntax_uid
        assert outgoing.size % 2 == 0, old.path.name
        assert {outgoing.study_instance_uid}.isdisjoint({i.study_instance_uid for i in originals})


def test_compressed_frames_are_copied(tmp_path: Path) -> None:
    """Encapsulated pixel data keep their bytes: nothing is decoded."""
    path = TEST_FILES / "JPEG2000.dcm"
    (new,) = _rewritten([read(path)], Edits(new_uids=True), tmp_path)
    assert _read(new.path).PixelData == _read(path).PixelData


def test_a_file_that_cannot_be_written_again_is_skipped(study: list[Outgoing], tmp_path: Path) -> None:
    """The others are rewritten."""
    content = study[0].path.read_bytes()
    # Cut between two elements: the UIDs have random lengths, so no fixed offset is such a place.
    patient_name = content.index(b"\x10\0\x10\0PN")
    study[0].path.write_bytes(content[:patient_name] + b"\x08\0\x22\x99SQ\0\0\xff\xff\xff\xff\1\2\3\4\5\6")
    outcomes = list(rewrite(study, Edits(new_uids=True), tmp_path))
    assert isinstance(outcomes[0], Skipped)
    assert outcomes[0].path == study[0].path
    assert all(isinstance(outcome, Outgoing) for outcome in outcomes[1:])


def test_everything_is_repeated_as_often_as_requested(
    study: list[Outgoing], folder: Path, tmp_path: Path
) -> None:
    """Files and generated instances are the same each time, in the same order."""
    studies = [Study(instances=2, when=WHEN, modality="NM")]
    order = SendRequest([folder], Edits(), studies, times=3)
    prepared = [piece for piece in prepare(order, tmp_path / "out") if isinstance(piece, Outgoing)]
    assert len(prepared) == 3 * (len(study) + 2)
    assert prepared[:5] == prepared[5:10] == prepared[10:]


def test_new_instances_are_new_each_time(study: list[Outgoing], folder: Path, tmp_path: Path) -> None:
    """With new UIDs each repeat is a study of its own; a generated study beside it is repeated."""
    studies = [Study(instances=2, when=WHEN, modality="NM")]
    order = SendRequest([folder], Edits(new_uids=True), studies, times=3)
    prepared = [piece for piece in prepare(order, tmp_path / "out") if isinstance(piece, Outgoing)]
    assert len(prepared) == 3 * (len(study) + 2)
    assert len({piece.study_instance_uid for piece in prepared}) == 4
    assert len({piece.sop_instance_uid for piece in prepared}) == 3 * len(study) + 2


@pytest.mark.parametrize("edits", [Edits(), Edits(new_uids=True), Edits(study_instance_uid="1.2.3")])
def test_an_unsendable_file_is_reported_once(edits: Edits, folder: Path, tmp_path: Path) -> None:
    """However often the rest is sent."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "notes.txt").write_text("no DICOM")
    prepared = list(prepare(SendRequest([folder], edits, [], times=3), tmp_path / "out"))
    assert [type(piece) for piece in prepared] == [Skipped]


def test_the_total_is_known_before_anything_is_generated() -> None:
    """A progress bar can show it; where files must be read first it is unknown."""
    studies = [Study(instances=2, when=WHEN) for _ in range(300)]
    assert SendRequest([], Edits(), studies).total == 600
    assert SendRequest([], Edits(), studies, times=2).total == 1200
    assert SendRequest([Path("x")], Edits(), studies).total is None


# ---- what one association proposes -------------------------------------------------------------------


def test_an_association_proposes_at_most_128_contexts(study: list[Outgoing]) -> None:
    """More contexts use several associations, in order, and none is lost."""
    instances = [
        Outgoing(Path("x"), Path("x"), 0, 0, "1.2", f"1.2.{n}", "1.3", "1.4", f"1.2.3.{n % 300}")
        for n in range(600)
    ]
    cut = list(batches(instances))
    assert [instance for _, batch in cut for instance in batch] == instances
    assert all(len(contexts) <= MAX_CONTEXTS for contexts, _ in cut)
    assert all({i.context for i in batch} == set(contexts) for contexts, batch in cut)
    assert len(list(batches(study))) == 1
    assert list(batches([])) == []
