"""Derive one segmentation or one structured report of a series, by highdicom.

Both reference every source instance. The segmentation marks the bright pixels; the report says how many
images were analysed. The same instances always give the same UIDs and bytes: dates are those of the study.
"""

import hashlib
from collections.abc import Sequence
from typing import BinaryIO

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ExplicitVRLittleEndian

from worker_app import picture, source
from worker_app.result import SERIES_DESCRIPTION, derived_uid, series_number
from worker_app.settings import Output
from worker_app.source import COPIED, Source
from worker_app.waiting import WaitingInstance

MAX_INSTANCES = 1_000
"""Bounds the memory for the mask: one byte for each pixel of the series."""
BRIGHT = 200
"""A pixel of the windowed frame is segmented if it is at least this bright, of 255."""
MANUFACTURER = "mini_pacs_edge worker_app"

_NOT_MADE = (AttributeError, ImportError, IndexError, KeyError, OSError, TypeError, ValueError)


class NotDerivableError(Exception):
    """The series is no stack of slices that highdicom accepts, or it is too long."""


def derive(instances: Sequence[WaitingInstance], ae_title: str, output: Output) -> tuple[Source, Dataset]:
    """Return the first source and the segmentation or report of all of them.

    Raises:
        NotDerivableError: none can be made of this series.
    """
    if len(instances) > MAX_INSTANCES:
        raise NotDerivableError(f"more than {MAX_INSTANCES} instances")
    try:
        first, headers, frames = _read(instances, with_frames=output is Output.SEG)
        known = sorted(str(header.SOPInstanceUID) for header in headers)
        uid = derived_uid(output.value, hashlib.sha256(" ".join(known).encode()).hexdigest(), ae_title)
        made = _segmentation(headers, frames, uid, ae_title) if frames else _report(headers, uid, ae_title)
    except (*_NOT_MADE, source.NoPictureError, source.UnreadableError) as error:
        raise NotDerivableError(type(error).__name__) from error
    _set_dates(made, headers[0])
    made.SeriesDescription = SERIES_DESCRIPTION
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return first, made


def _read(
    instances: Sequence[WaitingInstance], *, with_frames: bool
) -> tuple[Source, list[Dataset], list[NDArray[np.bool_]]]:
    headers, frames = [], []
    first = None
    for instance in instances:
        with instance.opened() as file:
            one = source.read(file, instance.transfer_syntax_uid)
            first = first or one
            if with_frames:
                grey = picture.eight_bit(one.first_frame(), one.header)
                if grey.ndim != 2 or grey.shape != (one.header.Rows, one.header.Columns):  # noqa: PLR2004
                    raise NotDerivableError("not a slice of grey values in its size")
                frames.append(grey >= BRIGHT)
            headers.append(_whole_header(one.file))
    assert first is not None
    return first, headers, frames


def _whole_header(file: BinaryIO) -> Dataset:
    file.seek(0)
    header = dcmread(file, stop_before_pixels=True)
    for keyword in COPIED:  # Type 2 attributes, which highdicom expects
        if keyword not in header and keyword != "SpecificCharacterSet":
            setattr(header, keyword, "")
    return header


def _segmentation(
    headers: list[Dataset], frames: list[NDArray[np.bool_]], uid: str, ae_title: str
) -> Dataset:
    algorithm = hd.AlgorithmIdentificationSequence(
        name="Bright parts", version="1", family=codes.DCM.ArtificialIntelligence
    )
    description = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="Bright parts",
        segmented_property_category=codes.SCT.PhysicalObject,
        segmented_property_type=codes.SCT.PhysicalObject,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
    )
    made = hd.seg.Segmentation(
        source_images=headers,
        pixel_array=np.stack(frames),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[description],
        series_instance_uid=derived_uid("series of", str(headers[0].SeriesInstanceUID), ae_title),
        series_number=series_number(ae_title),
        sop_instance_uid=uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=ae_title,
        software_versions="1",
        device_serial_number=ae_title,
        omit_empty_frames=False,  # so that every source is referenced
        content_label="AI_RESULT",
    )
    # highdicom generates this UID.
    organization = UID(derived_uid("dimension organization", uid, ae_title))
    made.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    for index in made.DimensionIndexSequence:
        index.DimensionOrganizationUID = organization
    return made


def _report(headers: list[Dataset], uid: str, ae_title: str) -> Dataset:
    device = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=derived_uid("device", ae_title, ae_title), name=ae_title, manufacturer_name=MANUFACTURER
        ),
    )
    count = hd.sr.Measurement(
        name=hd.sr.CodedConcept("AI_IMAGES", "99MINIPACS", "Number of images analysed"),
        value=len(headers),
        unit=codes.UCUM.NoUnits,
    )
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=derived_uid("tracking", uid, ae_title), identifier="AI_RESULT"
        ),
        measurements=[count],
        source_images=[
            hd.sr.SourceImageForMeasurementGroup(str(one.SOPClassUID), str(one.SOPInstanceUID))
            for one in headers
        ],
    )
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=device),
        procedure_reported=hd.sr.CodedConcept("AI_RESULT", "99MINIPACS", "Stand-in for an AI application"),
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
    )
    return hd.sr.ComprehensiveSR(
        evidence=headers,
        content=report[0],
        series_instance_uid=derived_uid("series of", str(headers[0].SeriesInstanceUID), ae_title),
        series_number=series_number(ae_title),
        sop_instance_uid=uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
    )


def _set_dates(made: Dataset, header: Dataset) -> None:
    """Replace the current time in `made`, also inside its sequences, by the time of the study."""
    date, time = str(header.StudyDate or "19000101"), str(header.StudyTime or "000000")
    by_keyword = {
        "InstanceCreationDate": date,
        "InstanceCreationTime": time,
        "ContentDate": date,
        "ContentTime": time,
        "ContributionDateTime": date + time.partition(".")[0],
        "ObservationDateTime": date + time.partition(".")[0],
    }
    for element in made.iterall():
        if element.keyword in by_keyword:
            element.value = by_keyword[element.keyword]
