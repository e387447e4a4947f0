"""The header reader agrees with pydicom where pydicom can read, and only raises `DataSetError`."""

import os
import struct
import tempfile
import zlib
from dataclasses import replace
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from support.dicom_peers import EXPLICIT, IMPLICIT, bundled_files, read_quietly

from gateway.dicom.dataset.elements import MAX_DEPTH
from gateway.dicom.dataset.header import MAX_REFERENCES, Header, read_header
from gateway.dicom.dataset.part10 import read_file_meta
from gateway.dicom.dataset.reader import MAX_EXAMINED_BYTES
from gateway.domain.identifiers import is_uid
from gateway.errors import DataSetError

BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def read(raw: bytes, transfer_syntax_uid: str = EXPLICIT, *, with_references: bool = False) -> Header:
    """Return the header of a data set that stands in a file behind some other bytes."""
    with tempfile.TemporaryFile() as file:
        file.write(b"before" + raw)
        file.flush()
        return read_header(file.fileno(), 6, transfer_syntax_uid, with_references=with_references)


def encode(data_set: Dataset, transfer_syntax_uid: str) -> bytes:
    """Return the bytes that pydicom writes."""
    buffer = DicomBytesIO()
    buffer.is_little_endian = transfer_syntax_uid != BIG
    buffer.is_implicit_VR = transfer_syntax_uid == IMPLICIT
    write_dataset(buffer, data_set)
    raw: bytes = buffer.getvalue()
    if transfer_syntax_uid == DEFLATED:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return deflate.compress(raw) + deflate.flush()
    return raw


def result(*, undefined: bool = False) -> Dataset:
    """Return a result with references at several depths, and a patient that must not be looked at."""

    def items(keyword: str, *members: Dataset) -> None:
        setattr(data_set, keyword, list(members))
        data_set[keyword].is_undefined_length = undefined
        for member in members:
            member.is_undefined_length_sequence_item = undefined

    def reference(uid: str) -> Dataset:
        item = Dataset()
        item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        item.ReferencedSOPInstanceUID = uid
        return item

    data_set = Dataset()
    data_set.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    data_set.SOPInstanceUID = "1.2.3.4"
    data_set.Modality = "OT"
    data_set.SeriesDescription = "AI_RESULT"
    data_set.PatientName = "TEST^EDGE"
    data_set.StudyInstanceUID = "1.2.3"
    data_set.SeriesInstanceUID = "1.2.3.5"
    series = Dataset()
    series.SeriesInstanceUID = "1.9.1"
    series.ReferencedSOPSequence = [reference("1.9.2"), reference("1.9.3")]
    study = Dataset()
    study.StudyInstanceUID = "1.9"
    study.ReferencedSeriesSequence = [series]
    items("SourceImageSequence", reference("1.8.1"), reference("1.8.2"))
    items("ReferencedImageSequence", reference("1.8.2"))
    items("CurrentRequestedProcedureEvidenceSequence", study)
    items("RequestAttributesSequence", reference("1.7.7"))  # no reference to a source
    data_set.PixelData = bytes(1000)
    data_set["PixelData"].VR = "OW"
    return data_set


EXPECTED = Header(
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.3.4",
    "1.2.3",
    "1.2.3.5",
    "OT",
    "AI_RESULT",
    ("1.8.2", "1.8.1", "1.9.2", "1.9.3"),
    ("1.9.1",),
    ("1.9",),
)


def test_every_bundled_file_reads_as_pydicom_reads_it() -> None:
    """All files of pydicom that have the UIDs: many syntaxes, unusual and broken ones too."""
    count = 0
    for path in bundled_files():
        try:
            meta = read_file_meta(path.read_bytes()[:65_536])
        except DataSetError:
            continue
        expected = read_quietly(path)
        if not all(expected.get(keyword) for keyword in NEEDED):
            continue
        with path.open("rb") as file:
            header = read_header(
                file.fileno(), meta.data_set_offset, meta.transfer_syntax_uid, with_references=False
            )
        assert [getattr(expected, keyword) for keyword in NEEDED] == [
            header.sop_class_uid,
            header.sop_instance_uid,
            header.study_instance_uid,
            header.series_instance_uid,
        ], path.name
        assert header.modality == expected.get("Modality", ""), path.name
        assert header.series_description == expected.get("SeriesDescription", "").strip(), path.name
        count += 1
    assert count > 50


@pytest.mark.parametrize("undefined", [False, True], ids=["defined", "undefined"])
@pytest.mark.parametrize("transfer_syntax_uid", [IMPLICIT, EXPLICIT, BIG, DEFLATED, "1.2.840.10008.1.2.4.90"])
def test_references_are_found_in_every_encoding(transfer_syntax_uid: str, undefined: bool) -> None:  # noqa: FBT001  parametrised
    """At any depth of the sequences that name a source, once each, and nowhere else."""
    raw = encode(result(undefined=undefined), transfer_syntax_uid)
    header = read(raw, transfer_syntax_uid, with_references=True)
    assert set(header.referenced_sop_instance_uids) == set(EXPECTED.referenced_sop_instance_uids)
    assert len(header.referenced_sop_instance_uids) == 4
    assert header.referenced_series_instance_uids == ("1.9.1",)
    assert header.series_description == "AI_RESULT"
    without = read(raw, transfer_syntax_uid)
    assert without.sop_instance_uid == "1.2.3.4"
    assert not without.referenced_sop_instance_uids


def test_deflated_with_a_zlib_header_is_read() -> None:
    """Some writers add a zlib header."""
    assert read(zlib.compress(encode(result(), EXPLICIT)), DEFLATED).study_instance_uid == "1.2.3"


def test_the_bytes_take_precedence_over_the_negotiated_syntax() -> None:
    """Explicit bytes on an implicit context, the reverse, and group 0002 in front of the data set."""
    assert read(encode(result(), EXPLICIT), IMPLICIT).sop_instance_uid == "1.2.3.4"
    assert read(encode(result(), IMPLICIT), EXPLICIT).sop_instance_uid == "1.2.3.4"
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", 18) + b"1.2.840.10008.1.2\0"
    assert read(meta + encode(result(), IMPLICIT), IMPLICIT).sop_instance_uid == "1.2.3.4"
    for syntax in (EXPLICIT, IMPLICIT, BIG):
        raw = bytes(128) + b"DICM" + meta + encode(result(), syntax)
        assert read(raw, syntax).sop_instance_uid == "1.2.3.4"


def test_elements_out_of_order_are_found() -> None:
    """Series Instance UID first: the reader goes on until it has all UIDs."""
    element = struct.Struct("<HH2sH")
    pairs = [(0x20, 0x0E, b"1.2.3.5\0"), (0x20, 0x0D, b"1.2.3\0"), (8, 0x18, b"1.4\0"), (8, 0x16, b"1.5\0")]
    raw = b"".join(element.pack(group, number, b"UI", len(value)) + value for group, number, value in pairs)
    assert read(raw).sop_instance_uid == "1.4"


def test_uids_behind_the_pixels_are_found() -> None:
    """The worst order of elements; with references, too."""
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 100) + bytes(100)
    assert read(pixels + encode(result(), EXPLICIT)).sop_instance_uid == "1.2.3.4"
    assert read(pixels + encode(result(), EXPLICIT), with_references=True).sop_instance_uid == "1.2.3.4"


@pytest.mark.parametrize("keyword", NEEDED)
def test_a_missing_uid_is_an_error(keyword: str) -> None:
    """Each of the four is required; the message says which."""
    data_set = result()
    tag = data_set[keyword].tag
    del data_set[keyword]
    with pytest.raises(DataSetError, match=f"{tag.group:04X},{tag.element:04X}"):
        read(encode(data_set, EXPLICIT))


def test_un_of_undefined_length_is_implicit_inside() -> None:
    """PS3.5 §6.2.2: a sequence whose VR an earlier system did not know."""
    inner = struct.pack("<HHI", 8, 0x1155, 4) + b"1.6\0"
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
    unknown = struct.pack("<HH2sHI", 8, 0x2112, b"UN", 0, 0xFFFFFFFF) + item
    raw = unknown + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    data_set = result()
    del data_set.SourceImageSequence
    header = read(raw + encode(data_set, EXPLICIT), with_references=True)
    assert header.referenced_sop_instance_uids[0] == "1.6"


@pytest.mark.parametrize("transfer_syntax_uid", [IMPLICIT, EXPLICIT])
def test_a_thousand_nested_sequences_are_refused(transfer_syntax_uid: str) -> None:
    """Depth is bounded, without recursion."""
    vr = b"" if transfer_syntax_uid == IMPLICIT else b"SQ\0\0"
    level = struct.pack("<HH", 8, 0x1140) + vr + b"\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    with pytest.raises(DataSetError, match=str(MAX_DEPTH)):
        read(encode(Dataset(), transfer_syntax_uid) + level * 1000, transfer_syntax_uid)


def test_references_are_bounded() -> None:
    """Further references are left out, in memory that does not grow with them."""
    item = b"".join(
        struct.pack("<HHI", 0xFFFE, 0xE000, 18)
        + struct.pack("<HH2sH", 8, 0x1155, b"UI", 10)
        + b"1.%08d" % number
        for number in range(MAX_REFERENCES + 500)
    )
    raw = struct.pack("<HH2sHI", 8, 0x1140, b"SQ", 0, len(item)) + item
    header = read(raw + encode(result(), EXPLICIT), with_references=True)
    assert len(header.referenced_sop_instance_uids) == MAX_REFERENCES


def test_an_endless_header_is_refused() -> None:
    """The number of bytes read is bounded, for deflated bombs too."""
    raw = struct.pack("<HH2sH", 9, 1, b"LO", 0xFFF0) + bytes(0xFFF0)
    with pytest.raises(DataSetError):
        read(struct.pack("<HH2sH", 9, 1, b"LO", 0) * (MAX_EXAMINED_BYTES // 8 + 10))
    bomb = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = bomb.compress(raw * 1000) + bomb.flush()
    assert len(deflated) < 200_000
    with pytest.raises(DataSetError, match="too large"):
        read(deflated, DEFLATED)


def test_large_values_are_skipped_unread() -> None:
    """A private element of 20 GiB (a hole) before the UIDs is not read."""
    size = 3 << 30
    with tempfile.TemporaryFile() as file:
        file.write(struct.pack("<HH2sHI", 7, 0x10, b"OB", 0, size))
        file.seek(size, os.SEEK_CUR)
        file.write(encode(result(), EXPLICIT))
        file.flush()
        assert read_header(file.fileno(), 0, EXPLICIT, with_references=True).sop_instance_uid == "1.2.3.4"


def explicit(tag: tuple[int, int], vr: bytes, value: bytes) -> bytes:
    """Return an element with a length of two bytes."""
    return struct.pack("<HH2sH", *tag, vr, len(value)) + value


def sequence(tag: tuple[int, int], content: bytes, length: int | None = None) -> bytes:
    """Return a sequence in Explicit VR Little Endian."""
    return struct.pack("<HH2sHI", *tag, b"SQ", 0, len(content) if length is None else length) + content


def item(content: bytes, length: int | None = None) -> bytes:
    """Return an item of a sequence."""
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content) if length is None else length) + content


NO_REFERENCES: dict[str, Any] = {
    "referenced_sop_instance_uids": (),
    "referenced_series_instance_uids": (),
    "referenced_study_instance_uids": (),
    "defect": "",
}
UNDEFINED = 0xFFFF_FFFF
NOTE = (0x10, 0x21B0)
REFERENCE = explicit((8, 0x1155), b"UI", b"1.8.1\0")


def instance(*, mid: bytes = b"", early: bytes = b"", late: bytes = b"") -> bytes:
    """Return a data set with the UIDs: `early` before them, `mid` between them, `late` behind them."""
    uids = [((8, 0x16), b"1.5\0"), ((8, 0x18), b"1.4\0"), ((0x20, 0xD), b"1.6\0"), ((0x20, 0xE), b"1.7\0")]
    sop_class, sop, study, series = (explicit(tag, b"UI", uid) for tag, uid in uids)
    return early + sop_class + sop + mid + study + series + late


@pytest.mark.parametrize("value", [b"", b"NOTE", b"SYNTHETIC NOTE", bytes(20), b"UIUI" * 9])
@pytest.mark.parametrize("vr", [b"??", b"--", b"  ", b"\0\0", b"ob", b"Lo", b"1A", b"\xff\xfe"])
@pytest.mark.parametrize("where", ["early", "mid", "twice"])
def test_an_invalid_vr_has_a_length_of_two_bytes(where: str, vr: bytes, value: bytes) -> None:
    """As in DCMTK and Orthanc, also as the first element, and several in a row."""
    if where == "early":
        raw = instance(early=explicit((8, 5), vr, value))
    else:
        raw = instance(mid=explicit(NOTE, vr, value) * (1 if where == "mid" else 2))
    assert read(raw).series_instance_uid == "1.7"


def test_an_undefined_vr_may_come_first() -> None:
    """It has a length of four bytes: PS3.5 §7.1.2."""
    future = struct.pack("<HH2sHI", 8, 5, b"XX", 0, 6) + b"A NOTE"
    assert read(instance(early=future)).series_instance_uid == "1.7"


@pytest.mark.parametrize("value", [b"", b"NOTE", bytes(300), bytes(0x2D2D), bytes(0x3F3F + 0x10000)])
def test_an_implicit_element_among_explicit_ones_is_read(value: bytes) -> None:
    """Its length is where others have their VR."""
    raw = instance(mid=struct.pack("<HHI", *NOTE, len(value)) + value)
    assert read(raw).series_instance_uid == "1.7"


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (
            instance(mid=struct.pack("<HH2sH", *NOTE, b"LO", 9000)),
            "(0010,21B0) at byte 24: cut off in a value",
        ),
        (instance()[:26], "at byte 24: cut off in an element header"),
        (
            instance(mid=sequence((8, 0x1140), item(REFERENCE, UNDEFINED), UNDEFINED)),
            "at byte 82: cut off in an element header inside (0008,1140)",
        ),
        (
            instance(mid=b"\xfe\xff\x0d\xe0\0\0\0\0"),
            "(FFFE,E00D) at byte 24: delimiter outside of a sequence",
        ),
    ],
)
def test_an_unparsable_element_is_named(raw: bytes, sentence: str) -> None:
    """Tag and offset, within the length of an Error Comment."""
    with pytest.raises(DataSetError) as caught:
        read(raw)
    assert str(caught.value) == sentence
    assert len(sentence) < 64


@pytest.mark.parametrize(
    "broken",
    [
        sequence((8, 0x2112), item(explicit((8, 0x1150), b"UI", b"1.2\0")[:-2] + b"\xff" * 30)),
        sequence((8, 0x2112), item(REFERENCE, 9000)),
        sequence((8, 0x2112), item(REFERENCE, UNDEFINED)),
        sequence((8, 0x2112), item(REFERENCE) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) + b"\xff" * 11),
        sequence((8, 0x2112), item(sequence((8, 0x1140), item(REFERENCE), 5000))),
    ],
)
def test_a_broken_sequence_of_references_loses_only_its_own(broken: bytes) -> None:
    """It is skipped by its length; the references behind it are found."""
    raw = instance(early=broken, late=sequence((0x40, 0xA375), item(explicit((8, 0x1155), b"UI", b"1.9\0"))))
    header = read(raw, with_references=True)
    assert replace(header, **NO_REFERENCES) == read(raw)
    assert header.referenced_sop_instance_uids[-1] == "1.9"


def test_references_behind_a_defect_are_left_out_and_reported() -> None:
    """The reader cannot go on behind it."""
    good = sequence((8, 0x1140), item(REFERENCE))
    raw = instance(early=good, late=explicit((0x21, 0x10), b"LO", b"SYNTH ") + b"\x21\0\x01\x10LO\xff\xff")
    header = read(raw, with_references=True)
    assert header.referenced_sop_instance_uids == ("1.8.1",)
    assert header.defect == "(0021,1001) at byte 96: cut off in a value"


@pytest.mark.parametrize("uid", [b"1.2/3\0", b"\xcc\xcc", b"1.2 .3", b"../..", b"", b"ABC\0"])
def test_a_reference_with_an_invalid_uid_is_left_out(uid: bytes) -> None:
    """Bytes behind a NUL are not read, by us or by DCMTK."""
    wrong, cut = explicit((8, 0x1155), b"UI", uid), explicit((8, 0x1155), b"UI", b"1.2.3\0\xcc\xcc")
    raw = instance(early=sequence((8, 0x2112), item(wrong) + item(cut)))
    assert read(raw, with_references=True).referenced_sop_instance_uids == ("1.2.3",)


SEEDS = [
    (syntax, encode(result(undefined=undefined), syntax))
    for syntax in (IMPLICIT, EXPLICIT, BIG, DEFLATED)
    for undefined in (False, True)
]


@given(
    seed=st.sampled_from(SEEDS),
    cuts=st.lists(st.tuples(st.integers(0, 900), st.binary(min_size=1, max_size=6)), min_size=1, max_size=8),
    end=st.integers(0, 900) | st.none(),
)
def test_mutated_bytes_raise_nothing_but_data_set_errors(
    seed: tuple[str, bytes], cuts: list[tuple[int, bytes]], end: int | None
) -> None:
    """The result is a header or a `DataSetError`, the same with references and without."""
    syntax, original = seed
    raw = bytearray(original)
    for position, patch in cuts:
        raw[position : position + len(patch)] = patch
    try:
        header = read(bytes(raw[:end]), syntax)
    except DataSetError:
        with pytest.raises(DataSetError):
            read(bytes(raw[:end]), syntax, with_references=True)
        return
    assert header.sop_instance_uid
    result = read(bytes(raw[:end]), syntax, with_references=True)
    assert replace(result, **NO_REFERENCES) == header
    assert all(is_uid(uid, 128) for uid in result.referenced_sop_instance_uids)


@given(st.binary(max_size=300), st.sampled_from([IMPLICIT, EXPLICIT, BIG, DEFLATED]))
def test_random_bytes_raise_nothing_but_data_set_errors(raw: bytes, syntax: str) -> None:
    """The same for noise."""
    with pytest.raises(DataSetError):
        read(raw, syntax, with_references=True)


def test_the_expected_header_is_what_pydicom_reads() -> None:
    """Pydicom reads the expected header of these tests back."""
    data_set = pydicom.dcmread(DicomBytesIO(encode(result(), IMPLICIT)), force=True)
    assert data_set.SOPInstanceUID == EXPECTED.sop_instance_uid
    assert read(encode(result(), IMPLICIT), IMPLICIT, with_references=True) == EXPECTED


# ---- what results name their sources by --------------------------------------------------------------


def dataset_of(**values: object) -> Dataset:
    """Return a data set of these keywords."""
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


SOP = dataset_of(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID="1.9.2")
IN_SERIES = dataset_of(SeriesInstanceUID="1.9.1", ReferencedSOPSequence=[SOP])
INSTANCES_IN_SERIES = dataset_of(SeriesInstanceUID="1.9.1", ReferencedInstanceSequence=[SOP])
IN_STUDY = dataset_of(StudyInstanceUID="1.9", ReferencedSeriesSequence=[IN_SERIES])
IMAGE = dataset_of(ValueType="IMAGE", ReferencedSOPSequence=[SOP])
UIDREF = dataset_of(ValueType="UIDREF", UID="1.9.1")
CONTOUR = dataset_of(ContourImageSequence=[SOP])
RT_SERIES = dataset_of(SeriesInstanceUID="1.9.1", ContourImageSequence=[SOP])
RT_STUDY = dataset_of(ReferencedSOPInstanceUID="1.9", RTReferencedSeriesSequence=[RT_SERIES])
INSTANCE, SERIES, STUDY = ("1.9.2",), ("1.9.1",), ("1.9",)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize(
    ("keyword", "member", "named"),
    [
        ("CurrentRequestedProcedureEvidenceSequence", IN_STUDY, (INSTANCE, SERIES, STUDY)),
        (
            "PertinentOtherEvidenceSequence",
            IN_STUDY,
            (INSTANCE, SERIES, STUDY),
        ),  # highdicom, without a request
        ("StudiesContainingOtherReferencedInstancesSequence", IN_STUDY, (INSTANCE, SERIES, STUDY)),  # SEG
        ("ReferencedSeriesSequence", INSTANCES_IN_SERIES, (INSTANCE, SERIES, ())),  # SEG, GSPS
        ("ReferencedSeriesSequence", dataset_of(SeriesInstanceUID="1.9.1"), ((), SERIES, ())),
        ("ReferencedStudySequence", dataset_of(ReferencedSOPInstanceUID="1.9"), (("1.9",), (), ())),
        (
            "ContentSequence",
            dataset_of(ContentSequence=[dataset_of(ContentSequence=[IMAGE])]),
            (INSTANCE, (), ()),
        ),  # SR
        ("ContentSequence", UIDREF, ((), SERIES, SERIES)),  # of TID 1411
        ("GraphicAnnotationSequence", dataset_of(ReferencedImageSequence=[SOP]), (INSTANCE, (), ())),
        ("BlendingSequence", IN_STUDY, (INSTANCE, SERIES, STUDY)),
        ("SourceInstanceSequence", SOP, (INSTANCE, (), ())),  # encapsulated PDF
        ("ReferencedWaveformSequence", SOP, (INSTANCE, (), ())),
        (
            "ReferencedFrameOfReferenceSequence",
            dataset_of(RTReferencedStudySequence=[RT_STUDY]),
            (("1.9", "1.9.2"), SERIES, ()),
        ),
        ("ROIContourSequence", dataset_of(ContourSequence=[CONTOUR]), (INSTANCE, (), ())),
        ("PredecessorDocumentsSequence", IN_STUDY, ((), (), ())),  # another result
        ("IdenticalDocumentsSequence", IN_STUDY, ((), (), ())),
        ("ReferencedPerformedProcedureStepSequence", SOP, ((), (), ())),
    ],
)
def test_the_references_of_each_kind_of_result_are_found(
    syntax: str,
    keyword: str,
    member: Dataset,
    named: tuple[tuple[str, ...], ...],
) -> None:
    """Instances, series and studies of SR, SEG, GSPS, RT and documents; not references to other results."""
    data_set = dataset_of(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11",
        SOPInstanceUID="1.2.3.4",
        StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.3.5",
    )
    setattr(data_set, keyword, [member])
    header = read(encode(data_set, syntax), syntax, with_references=True)
    assert named == (
        header.referenced_sop_instance_uids,
        header.referenced_series_instance_uids,
        header.referenced_study_instance_uids,
    )
