"""Read a received instance: some attributes, and its first frame.

Memory is limited, however large the instance is: only the listed attributes are read, only the first frame is
decoded, and a deflated data set is inflated only up to a limit.
"""

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_file_meta_info
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

MAX_FRAME_BYTES = 64 << 20
MAX_INFLATED_BYTES = 96 << 20
MAX_ENCAPSULATED_BYTES = 256 << 20
"""The decoder reads an encapsulated frame whole, so the size of its file is limited."""

_PREAMBLE_BYTES = 132  # PS3.10 §7.1: 128 bytes and "DICM"
_GROUP_LENGTH_BYTES = 12  # (0002,0000) UL, explicit VR

COPIED = (
    "SpecificCharacterSet",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "StudyInstanceUID",
    "StudyID",
)
"""Patient and study attributes that a result copies from its source. All are text, whose bytes are the same
in every transfer syntax."""

_OWN = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "InstanceNumber",
    "LossyImageCompression",
    "WindowCenter",
    "WindowWidth",
    "RescaleSlope",
    "RescaleIntercept",
    "PhotometricInterpretation",
    "SamplesPerPixel",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "FrameOfReferenceUID",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "SliceThickness",
)
_PALETTE = (
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
)

# What pydicom and Pillow raise for pixel data that they cannot decode.
_UNDECODABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


class UnreadableError(Exception):
    """The instance is not DICOM, or lacks a UID that a result must reference."""


class NoPictureError(Exception):
    """No frame can be shown; the message is short enough for the panel of text."""


@dataclass(frozen=True, slots=True)
class Source:
    """One instance: `header` has only the attributes listed here; `file` is a Part 10 file."""

    header: Dataset
    file: BinaryIO
    transfer_syntax_uid: str

    @property
    def sop_class_uid(self) -> str:
        """The SOP Class UID."""
        return str(self.header.SOPClassUID)

    @property
    def sop_instance_uid(self) -> str:
        """The SOP Instance UID."""
        return str(self.header.SOPInstanceUID)

    @property
    def study_instance_uid(self) -> str:
        """The Study Instance UID."""
        return str(self.header.StudyInstanceUID)

    @property
    def series_instance_uid(self) -> str:
        """The Series Instance UID; the Study Instance UID where there is none."""
        return str(self.header.get("SeriesInstanceUID") or self.header.StudyInstanceUID)

    def first_frame(self) -> NDArray[Any]:
        """Return the first frame: stored values, rows by columns (by 3 samples), with the palette applied.

        Raises:
            NoPictureError: there are no pixels, the frame is too large, or its encoding cannot be decoded.
        """
        header = self.header
        rows, columns = header.get("Rows"), header.get("Columns")
        if not isinstance(rows, int) or not isinstance(columns, int) or not rows or not columns:
            raise NoPictureError("no pixel data")
        samples = header.get("SamplesPerPixel") or 1
        bits = header.get("BitsAllocated") or 8
        if rows * columns * samples * bits > MAX_FRAME_BYTES * 8:
            raise NoPictureError("frame too large")
        self.file.seek(0, 2)
        encapsulated = UID(self.transfer_syntax_uid).is_encapsulated
        if encapsulated and self.file.tell() > MAX_ENCAPSULATED_BYTES:
            raise NoPictureError("instance too large")
        self.file.seek(0)
        palette = Dataset()
        try:
            frame = pixel_array(self.file, index=0, ds_out=palette, specific_tags=_tags(_PALETTE))
            if header.get("PhotometricInterpretation") == "PALETTE COLOR":
                frame = apply_color_lut(frame, palette)
        except _UNDECODABLE as error:
            raise NoPictureError("not decodable here") from error
        if frame.ndim not in {2, 3} or not np.issubdtype(frame.dtype, np.number):
            raise NoPictureError("not a picture")
        return frame


def read(file: BinaryIO, transfer_syntax_uid: str) -> Source:
    """Return the instance in the Part 10 `file`, which must stay open.

    Raises:
        UnreadableError: it is not DICOM, or has no SOP Class, SOP Instance or Study Instance UID.
    """
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        file = _inflated(file)
    file.seek(0)
    try:
        header = dcmread(file, stop_before_pixels=True, specific_tags=_tags(COPIED + _OWN))
        missing = [
            name for name in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID") if not header.get(name)
        ]
    except (InvalidDicomError, *_UNDECODABLE) as error:
        raise UnreadableError(f"not readable: {type(error).__name__}") from error
    if missing:
        raise UnreadableError(f"no {missing[0]}")
    return Source(header, file, transfer_syntax_uid)


def _tags(keywords: tuple[str, ...]) -> list[Any]:
    return list(keywords)


def _inflated(file: BinaryIO) -> BinaryIO:
    """Return the same instance in Explicit VR Little Endian, cut off at MAX_INFLATED_BYTES."""
    file.seek(0)
    head = file.read(_PREAMBLE_BYTES + _GROUP_LENGTH_BYTES)
    if len(head) < _PREAMBLE_BYTES + _GROUP_LENGTH_BYTES:
        raise UnreadableError("not readable: too short")
    (group_length,) = struct.unpack("<L", head[-4:])
    file.seek(len(head) + group_length)
    # PS3.5 §A.5: raw deflate, no zlib header.
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    whole = BytesIO()
    whole.write(head[:_PREAMBLE_BYTES])
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    write_file_meta_info(DicomIO(whole), meta, enforce_standard=False)
    try:
        while (piece := file.read(1 << 16)) and whole.tell() < MAX_INFLATED_BYTES:
            whole.write(inflater.decompress(piece, MAX_INFLATED_BYTES))
    except zlib.error as error:
        raise UnreadableError("not readable: deflate") from error
    return whole
