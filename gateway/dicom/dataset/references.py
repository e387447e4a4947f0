"""Collect the instances, series and studies that a data set references.

A result names the instances from which it was derived in one of many sequences. header.py enters these
sequences, and gives each element inside them to `ReferencedUids`.
"""

from gateway.dicom.dataset.elements import Element
from gateway.dicom.dataset.reader import Reader
from gateway.dicom.dataset.values import text_of_element
from gateway.domain.identifiers import MAX_DATA_SET_UID_LENGTH, is_uid

MAX_REFERENCES = 10_000
"""How many UIDs of instances are collected; of series and of studies as many each."""

_REFERENCED_SOP_INSTANCE_UID = 0x0008_1155
_STUDY_INSTANCE_UID = 0x0020_000D
_SERIES_INSTANCE_UID = 0x0020_000E
_UID = 0x0040_A124
"""The value of a content item UIDREF, such as Source Series for Segmentation (PS3.16 TID 1411)."""

REFERENCING = frozenset(
    {
        0x0008_1110,  # Referenced Study
        0x0008_1115,  # Referenced Series
        0x0008_113A,  # Referenced Waveform
        0x0008_114A,  # Referenced Instance
        0x0008_1140,  # Referenced Image
        0x0008_1200,  # Studies Containing Other Referenced Instances, of the Common Instance Reference Module
        0x0008_1250,  # Related Series
        0x0008_2112,  # Source Image
        0x0008_9092,  # Referenced Image Evidence
        0x0008_9154,  # Source Image Evidence
        0x0040_9094,  # Referenced Image Real World Value Mapping
        0x0040_A375,  # Current Requested Procedure Evidence, of an SR
        0x0040_A385,  # Pertinent Other Evidence, of an SR without a request
        0x0040_A730,  # Content, of an SR
        0x0042_0013,  # Source Instance, of an encapsulated document
        0x0064_0002,  # Deformable Registration
        0x0066_0002,  # Surface, of a surface segmentation
        0x0070_0001,  # Graphic Annotation, of a presentation state
        0x0070_0308,  # Registration, of a spatial registration
        0x0070_031C,  # Fiducial Set, of spatial fiducials
        0x0070_0402,  # Blending, of a presentation state
        0x0070_1B01,  # Advanced Blending, of a presentation state
        0x3006_0010,  # Referenced Frame of Reference, of an RT Structure Set
        0x3006_0039,  # ROI Contour, of an RT Structure Set
        0x300C_0002,  # Referenced RT Plan
        0x300C_0060,  # Referenced Structure Set
        0x300C_0080,  # Referenced Dose
        0x5200_9229,  # Shared Functional Groups, with Derivation Image
        0x5200_9230,  # Per-Frame Functional Groups, with Derivation Image
    }
)
"""Sequences that reference the instances from which an instance was derived, or to which it belongs.
Predecessor Documents (0040,A360) and Identical Documents (0040,A525) are left out, because they reference
other results. Requests and performed procedure steps are left out too."""


class ReferencedUids:
    """The UIDs that are referenced, in their order, without repeats, at most `MAX_REFERENCES` of each."""

    def __init__(self) -> None:
        self.instances: dict[str, None] = {}
        self.series: dict[str, None] = {}
        self.studies: dict[str, None] = {}

    def take(self, element: Element, reader: Reader) -> None:
        """Add the UID of an element of a sequence of `REFERENCING`; ignore other elements."""
        if element.tag == _REFERENCED_SOP_INSTANCE_UID:
            found = [self.instances]
        elif element.tag == _SERIES_INSTANCE_UID:
            found = [self.series]
        elif element.tag == _STUDY_INSTANCE_UID:
            found = [self.studies]
        elif element.tag == _UID:  # of a series or of a study
            found = [self.series, self.studies]
        else:
            return
        uid = text_of_element(element, reader)
        # An invalid UID references no stored instance.
        if not is_uid(uid, MAX_DATA_SET_UID_LENGTH):
            return
        for uids in found:
            if len(uids) < MAX_REFERENCES:
                uids[uid] = None
