"""Derive the result of a source instance: a Secondary Capture in the same study that references the source.

All values depend only on the source and the worker's AE title; dates are copied, never the current time. So
every machine with the same software derives the same UIDs and the same bytes (G4).
"""

import uuid
import zlib
from dataclasses import dataclass
from io import BytesIO

from pydicom import Dataset
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from worker_app import geometry, picture
from worker_app.source import COPIED, Source

SERIES_DESCRIPTION = "AI_RESULT"
SERIES_NUMBER = 9000

_NAMESPACE = uuid.UUID("6f2f6f4e-6d5e-5d0a-9a7c-3c1f0f5b2a11")
_REQUIRED_EMPTY = (  # Type 2 of Patient and General Study, PS3.3 §C.7.1.1 and §C.7.2.1
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
)


def derived_uid(kind: str, source_uid: str, ae_title: str) -> str:
    """Return the UID of the result of `source_uid` by `ae_title`, in the root 2.25 (PS3.5 §B.2)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, f'{kind} {source_uid} {ae_title}').int}"


@dataclass(frozen=True, slots=True)
class SlicePlace:
    """The place of a result in its series: InstanceNumber, and whether the source has this number."""

    number: int
    is_of_source: bool


def derive(source: Source, ae_title: str, place: SlicePlace | None = None) -> Dataset:
    """Return the result of `source` by the worker `ae_title`, to be sent in Explicit VR Little Endian.

    With `place` it is one slice of the series that is derived from the source's series.
    """
    result = Dataset()
    _copy_patient_and_study(source.header, result)
    result.SOPClassUID = SecondaryCaptureImageStorage
    result.SeriesDescription = SERIES_DESCRIPTION
    result.SeriesNumber = str(series_number(ae_title))
    result.Modality = "OT"
    if place is None:
        result.SOPInstanceUID = UID(derived_uid("instance", source.sop_instance_uid, ae_title))
        result.SeriesInstanceUID = UID(derived_uid("series", source.study_instance_uid, ae_title))
        result.InstanceNumber = _instance_number(source.header)
    else:
        # Other instances in the series may give the same source another number, and so other bytes. The UID
        # then differs too.
        kind = "slice" if place.is_of_source else f"slice {place.number}"
        result.SOPInstanceUID = UID(derived_uid(kind, source.sop_instance_uid, ae_title))
        result.SeriesInstanceUID = UID(derived_uid("series of", source.series_instance_uid, ae_title))
        result.InstanceNumber = str(place.number)
        geometry.copy(source.header, result)
    result.ImageType = ["DERIVED", "SECONDARY"]
    result.ConversionType = "WSD"  # Workstation, PS3.3 §C.8.6.1
    result.Manufacturer = "mini_pacs_edge worker_app"
    result.SecondaryCaptureDeviceID = ae_title
    result.DerivationDescription = f"Stand-in for an AI application, by {ae_title}; not for diagnosis"
    result.BurnedInAnnotation = "YES"
    if source.header.get("LossyImageCompression") == "01":
        result.LossyImageCompression = "01"  # must stay 01 in every derived image: PS3.3 §C.7.6.1.1.5
    result.SourceImageSequence = [_reference(source)]
    _set_pixels(result, picture.draw(source, ae_title))
    # Set the encoding as if the result had been read from a file. Otherwise pydicom decodes the copied
    # values and encodes them again.
    named = "SpecificCharacterSet" in result
    characters = convert_encodings(result.SpecificCharacterSet) if named else default_encoding
    result.set_original_encoding(is_implicit_vr=False, is_little_endian=True, character_encoding=characters)
    result.file_meta = FileMetaDataset()
    result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return result


def encoded(result: Dataset) -> bytes:
    """Return the encoded data set of `result`."""
    buffer = DicomIO(BytesIO())
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, result)
    buffer.seek(0)
    return buffer.read()


def _copy_patient_and_study(header: Dataset, result: Dataset) -> None:
    """Copy the attributes byte for byte, without decoding text: its character set may be unknown here."""
    for keyword in COPIED:
        if keyword not in header:
            continue
        element: DataElement | RawDataElement = header.get_item(keyword)
        if isinstance(element, RawDataElement):
            value = element.value or b""
            padded = value + b" " * (len(value) % 2) if keyword != "StudyInstanceUID" else value
            result[element.tag] = element._replace(
                VR=_vr(keyword), value=padded, length=len(padded), is_implicit_VR=False, is_little_endian=True
            )
        else:
            result[element.tag] = element  # only UIDs are decoded already, when they are read
    for keyword in _REQUIRED_EMPTY:
        if keyword not in result:
            setattr(result, keyword, "")


def _vr(keyword: str) -> str:
    probe = Dataset()
    setattr(probe, keyword, "")
    return str(probe[keyword].VR)


def _reference(source: Source) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.sop_class_uid
    reference.ReferencedSOPInstanceUID = source.sop_instance_uid
    purpose = Dataset()  # CID 7202: Source image for image processing operation
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    reference.PurposeOfReferenceCodeSequence = [purpose]
    return reference


def _set_pixels(result: Dataset, pixels: picture.Pixels) -> None:
    result.SamplesPerPixel = 3
    result.PhotometricInterpretation = "RGB"
    result.PlanarConfiguration = 0
    result.Rows, result.Columns = pixels.shape[:2]
    result.BitsAllocated = result.BitsStored = 8
    result.HighBit = 7
    result.PixelRepresentation = 0
    content = pixels.tobytes()
    result.PixelData = content + b"\0" * (len(content) % 2)
    result["PixelData"].VR = "OB"


def series_number(ae_title: str) -> int:
    """Return 9000 plus the number in the AE title (1 for APP01), or plus one computed from its letters."""
    digits = "".join(c for c in ae_title if c.isdecimal())
    return SERIES_NUMBER + (int(digits[-3:]) if digits else zlib.crc32(ae_title.encode()) % 1000)


def _instance_number(header: Dataset) -> str:
    """Return the InstanceNumber of the source, so that results have the order of their sources; else 1."""
    try:
        return str(int(header.get("InstanceNumber") or 1))
    except (TypeError, ValueError):
        return "1"
