"""Generate studies with images of simple anatomies.

The instances of a study share Study, Series and Frame of Reference UID. They differ in InstanceNumber and
ImagePositionPatient, so that a viewer scrolls through them. Pixels depend only on modality, instance number
and number of instances: the same request with the same UIDs gives the same bytes.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    NuclearMedicineImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    XRayAngiographicImageStorage,
    generate_uid,
)

from gateway.sender.collect import read
from gateway.sender.outgoing import Outgoing
from gateway.sender.phantom import PHANTOMS

DEFAULT_MODALITY = "CT"
DEFAULT_PATIENT_ID = "EDGE-SIM"
DEFAULT_PATIENT_NAME = "Simulated^Patient"


@dataclass(frozen=True, slots=True)
class Modality:
    """How the images of a modality are generated: `size` in pixels, `spacing` and `slice` in millimetres."""

    sop_class_uid: str
    phantom: str
    size: int
    bits: int = 16
    stored: int = 12
    signed: bool = False
    intercept: int = 0
    window: tuple[int, int] = (0, 0)
    spacing: float = 0.0
    slice: float = 0.0
    body_part: str = ""


MODALITIES: Mapping[str, Modality] = MappingProxyType(
    {
        "CT": Modality(
            CTImageStorage,
            "chest",
            512,
            stored=16,
            signed=True,
            window=(-250, 1500),
            spacing=0.75,
            slice=5,
            body_part="CHEST",
        ),
        "MR": Modality(
            MRImageStorage, "head", 256, window=(550, 1100), spacing=0.9, slice=4, body_part="HEAD"
        ),
        "PT": Modality(
            PositronEmissionTomographyImageStorage,
            "uptake",
            168,
            stored=16,
            window=(1100, 2200),
            spacing=4,
            slice=3,
        ),
        "CR": Modality(
            ComputedRadiographyImageStorage, "projection", 1024, window=(1600, 2800), body_part="CHEST"
        ),
        "XA": Modality(XRayAngiographicImageStorage, "projection", 512, window=(1600, 2800)),
        "NM": Modality(NuclearMedicineImageStorage, "uptake", 128, stored=16, window=(1100, 2200)),
        "US": Modality(UltrasoundImageStorage, "sector", 512, bits=8, stored=8),
        "OT": Modality(SecondaryCaptureImageStorage, "card", 512, bits=8, stored=8),
    }
)


@dataclass(frozen=True, slots=True)
class Study:
    """A study to generate. UIDs that are None are generated; `sop_instance_uid` is for a single instance.

    `number` (a padded text) becomes StudyID and AccessionNumber. Without it, `study_id` becomes StudyID. The
    StudyID is part of the StudyDescription.
    """

    instances: int
    when: datetime
    modality: str = DEFAULT_MODALITY
    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None
    patient_id: str = DEFAULT_PATIENT_ID
    patient_name: str = DEFAULT_PATIENT_NAME
    series_description: str | None = None
    number: str | None = None
    study_id: str | None = None
    signed: bool | None = None


def generate(study: Study) -> Iterator[Dataset]:
    """Yield the instances of `study`, with the File Meta Information that `write` needs.

    Raises:
        ValueError: the modality is unknown, or there is one SOP Instance UID for several instances.
    """
    if study.modality not in MODALITIES:
        known = ", ".join(MODALITIES)
        raise ValueError(f"modality {study.modality!r} cannot be generated; there are {known}")
    if study.sop_instance_uid is not None and study.instances != 1:
        raise ValueError("a SOP Instance UID names one instance, but more are to be generated")
    study_instance_uid = study.study_instance_uid or generate_uid(prefix=None)
    uids = {
        "StudyInstanceUID": study_instance_uid,
        "SeriesInstanceUID": study.series_instance_uid or generate_uid(prefix=None),
        "FrameOfReferenceUID": generate_uid(entropy_srcs=["frame of reference", study_instance_uid]),
    }
    for index in range(study.instances):
        sop_instance_uid = study.sop_instance_uid or generate_uid(prefix=None)
        instance_uids = {**uids, "SOPInstanceUID": sop_instance_uid}
        with warnings.catch_warnings():
            # pydicom warns of invalid values; they are sent as they are, as in `rewrite`.
            warnings.simplefilter("ignore")
            instance = _instance(study, MODALITIES[study.modality], index, instance_uids)
        yield instance


def write(instance: Dataset, folder: Path) -> Outgoing:
    """Write `instance` to a Part 10 file in `folder`/<StudyInstanceUID>/, and return it for sending."""
    path = folder / str(instance.StudyInstanceUID) / f"{instance.SOPInstanceUID}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # see `generate`
        instance.save_as(path, enforce_file_format=True)
    return read(path)


def _instance(study: Study, modality: Modality, index: int, uids: Mapping[str, str]) -> Dataset:
    instance = Dataset()
    instance.file_meta = FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    instance.file_meta.MediaStorageSOPClassUID = UID(modality.sop_class_uid)
    instance.file_meta.MediaStorageSOPInstanceUID = UID(uids["SOPInstanceUID"])
    instance.SpecificCharacterSet = "ISO_IR 192"
    instance.SOPClassUID = UID(modality.sop_class_uid)
    for keyword, uid in uids.items():
        setattr(instance, keyword, UID(uid))
    _describe(instance, study, modality, index)
    if modality.slice:
        _place(instance, study, modality, index)
    _set_pixels(instance, study, modality, index)
    return instance


def _describe(instance: Dataset, study: Study, modality: Modality, index: int) -> None:
    date, time = study.when.strftime("%Y%m%d"), study.when.strftime("%H%M%S")
    instance.StudyDate = instance.SeriesDate = instance.ContentDate = date
    instance.StudyTime = instance.SeriesTime = instance.ContentTime = time
    instance.AccessionNumber = study.number or ""
    instance.StudyID = study.number or study.study_id or ""
    instance.Modality = study.modality
    instance.Manufacturer = "mini_pacs_edge sender simulator"
    instance.ReferringPhysicianName = ""
    instance.StudyDescription = f"Simulated {study.modality} {instance.StudyID}".rstrip()
    instance.SeriesDescription = study.series_description or f"{modality.phantom.capitalize()} phantom"
    instance.PatientName = study.patient_name
    instance.PatientID = study.patient_id
    instance.PatientBirthDate = instance.PatientSex = ""
    instance.BodyPartExamined = modality.body_part
    instance.SeriesNumber = 1
    instance.InstanceNumber = index + 1
    instance.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"] if modality.slice else ["ORIGINAL", "PRIMARY"]
    if study.modality == "OT":
        instance.ConversionType = "SYN"  # Synthetic image, PS3.3 §C.8.6.1
    if study.modality in {"CR", "US"}:
        instance.Laterality = ""


def _place(instance: Dataset, study: Study, modality: Modality, index: int) -> None:
    """Set the position of a slice: from the feet to the head, centred on the origin (PS3.3 §C.7.6.2.1.1)."""
    corner = -modality.spacing * (modality.size - 1) / 2
    height = (index - (study.instances - 1) / 2) * modality.slice
    instance.PatientPosition = "HFS"
    instance.PixelSpacing = [modality.spacing, modality.spacing]
    instance.SliceThickness = modality.slice
    instance.SpacingBetweenSlices = modality.slice
    instance.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    instance.ImagePositionPatient = [corner, corner, height]
    instance.SliceLocation = height
    instance.PositionReferenceIndicator = ""


def _set_pixels(instance: Dataset, study: Study, modality: Modality, index: int) -> None:
    z = (index + 0.5) / study.instances
    field = PHANTOMS[modality.phantom](modality.size, z, index + 1)
    signed = modality.signed if study.signed is None else study.signed
    # Unsigned CT stores Hounsfield units + 1024, signed CT stores them as they are.
    intercept = -1024 if study.modality == "CT" and not signed else modality.intercept
    kind = np.dtype(f"{'i' if signed else 'u'}{modality.bits // 8}").newbyteorder("<")
    low, high = (
        (-(1 << modality.stored - 1), (1 << modality.stored - 1) - 1)
        if signed
        else (0, (1 << modality.stored) - 1)
    )
    instance.SamplesPerPixel = 1
    instance.PhotometricInterpretation = "MONOCHROME2"
    instance.Rows = instance.Columns = modality.size
    instance.BitsAllocated = modality.bits
    instance.BitsStored = modality.stored
    instance.HighBit = modality.stored - 1
    instance.PixelRepresentation = int(signed)
    if modality.window[1]:
        instance.WindowCenter, instance.WindowWidth = modality.window
    if modality.bits > 8:  # noqa: PLR2004
        instance.RescaleIntercept = intercept
        instance.RescaleSlope = 1
        instance.RescaleType = "HU" if study.modality == "CT" else "US"
    instance.PixelData = np.clip(np.rint(field - intercept), low, high).astype(kind).tobytes()
    instance["PixelData"].VR = "OW" if modality.bits > 8 else "OB"  # noqa: PLR2004
