"""Data sets for the tests of the header reader, and the headers that it must return."""

import struct
import tempfile
import zlib
from collections.abc import Collection
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from gateway.dicom.dataset.header import Header, read_header
from gateway.rules.dictionary import attribute
from support.dicom_peers import EXPLICIT, IMPLICIT

BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def read(
    raw: bytes,
    transfer_syntax_uid: str = EXPLICIT,
    *,
    with_references: bool = False,
    asked: Collection[str] = (),
) -> Header:
    """Return the header of a data set that begins behind some other bytes of a file.

    `asked` are the keywords of attributes for the rules.
    """
    with tempfile.TemporaryFile() as file:
        file.write(b"before" + raw)
        file.flush()
        return read_header(
            file.fileno(),
            6,
            transfer_syntax_uid,
            with_references=with_references,
            asked={one.tag: one for one in map(attribute, asked)},
        )


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
    """Return a result with references at several depths, and a patient name that must not be read."""

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
    """Return a data set: `early` stands before the UIDs, `mid` between them, `late` behind them."""
    uids = [((8, 0x16), b"1.5\0"), ((8, 0x18), b"1.4\0"), ((0x20, 0xD), b"1.6\0"), ((0x20, 0xE), b"1.7\0")]
    sop_class, sop, study, series = (explicit(tag, b"UI", uid) for tag, uid in uids)
    return early + sop_class + sop + mid + study + series + late
