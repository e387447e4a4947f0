"""Read the UIDs of a data set, and for a result the instances from which it was derived.

The receiver reads them from the spooled file after the last byte and before the flush. Only the listed
values, and those that rules ask for, are decoded; other attributes are skipped by their length.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Self

from gateway.dicom.dataset.elements import Element, Walk
from gateway.dicom.dataset.encoding import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    HEADER_BYTES,
    IMPLICIT_LITTLE,
    ITEM,
    Syntax,
)
from gateway.dicom.dataset.plain import Begin, read_plain
from gateway.dicom.dataset.reader import FileReader, HeldReader, InflatedReader, Reader, ReadLimitError
from gateway.dicom.dataset.values import MAX_BYTES, SPECIFIC_CHARACTER_SET, TOO_LONG, decode
from gateway.dicom.negotiation import text_of
from gateway.domain.identifiers import MAX_DATA_SET_UID_LENGTH, is_uid
from gateway.errors import DataSetError
from gateway.rules.dictionary import Attribute
from gateway.rules.facts import Facts, Value

MAX_REFERENCES = 10_000

_SOP_CLASS_UID = 0x0008_0016
_SOP_INSTANCE_UID = 0x0008_0018
_MODALITY = 0x0008_0060
_SERIES_DESCRIPTION = 0x0008_103E
_STUDY_INSTANCE_UID = 0x0020_000D
_SERIES_INSTANCE_UID = 0x0020_000E
_REFERENCED_SOP_INSTANCE_UID = 0x0008_1155
_UID = 0x0040_A124
"""The value of a content item UIDREF, such as Source Series for Segmentation (PS3.16 TID 1411)."""
_PIXEL_DATA = 0x7FE0_0000
"""No references are in this group or after it."""

_WANTED = frozenset(
    {
        _SOP_CLASS_UID,
        _SOP_INSTANCE_UID,
        _MODALITY,
        _SERIES_DESCRIPTION,
        _STUDY_INSTANCE_UID,
        _SERIES_INSTANCE_UID,
    }
)
_NEEDED = (_SOP_CLASS_UID, _SOP_INSTANCE_UID, _STUDY_INSTANCE_UID, _SERIES_INSTANCE_UID)

_REFERENCING = frozenset(
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

_MAX_VALUE_BYTES = 256
"""A UID has 64 bytes, Series Description 64 characters of up to 4 bytes."""

_IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_DEFLATED = frozenset(
    {
        "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian: PS3.5 §A.5
        "1.2.840.10008.1.2.4.95",  # JPIP Referenced Deflate: PS3.5 §A.7
        "1.2.840.10008.1.2.4.205",  # JPIP HTJ2K Referenced Deflate: PS3.5 §A.13
    }
)

_INFLATING = threading.BoundedSemaphore(2)
"""Limits how many deflated headers are read at once: each may need MAX_EXAMINED_BYTES of memory."""


@dataclass(frozen=True, slots=True)
class Header:
    """Values of a data set, without padding, not validated; the four UIDs are never empty.

    `referenced_…` are UIDs in their order, without repeats, at most `MAX_REFERENCES`; empty unless requested.
    If some may be missing, `defect` is the reason.

    `attributes` are the values of the attributes that were asked for and are there. If the data set is broken
    before the last of them, `attributes_defect` is the reason.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    series_description: str
    referenced_sop_instance_uids: tuple[str, ...]
    referenced_series_instance_uids: tuple[str, ...]
    referenced_study_instance_uids: tuple[str, ...] = ()
    defect: str = ""
    attributes: Mapping[int, tuple[Value, ...]] = field(default_factory=lambda: NOTHING)
    attributes_defect: str = ""


NOTHING: Mapping[int, tuple[Value, ...]] = MappingProxyType({})


def read_header(
    descriptor: int,
    offset: int,
    transfer_syntax_uid: str,
    *,
    with_references: bool,
    asked: Mapping[int, Attribute] = MappingProxyType({}),
    held: bytes | None = None,
) -> Header:
    """Read the header of the data set that begins at `offset` of a file; do not move the file position.

    `held` is the whole data set in memory; then the file is not read, unless the data set is deflated.

    The data set is read up to (0020,000E), or up to the last of the attributes that are `asked` for, by their
    tags. With `with_references` it is read again, up to Pixel Data.
    References after a defect, or beyond the limits of the reader and `MAX_REFERENCES`, are left out: a defect
    after the UIDs is no error.

    Raises:
        DataSetError: it cannot be parsed as far as needed, or one of the four UIDs is missing.
    """
    values = _HeaderValues(with_references=False, asked=asked)
    header = values.read(descriptor, offset, transfer_syntax_uid, held).header()
    if not with_references:
        return header
    values = _HeaderValues(with_references=True, asked={})
    defect = ""
    try:
        values.read(descriptor, offset, transfer_syntax_uid)
    except DataSetError as error:
        defect = str(error)
    return replace(
        header,
        referenced_sop_instance_uids=tuple(values.instances),
        referenced_series_instance_uids=tuple(values.series),
        referenced_study_instance_uids=tuple(values.studies),
        defect=values.defect or defect,
    )


def syntax_of(transfer_syntax_uid: str) -> Syntax:
    """Return byte order and VRs of a transfer syntax."""
    if transfer_syntax_uid == _IMPLICIT_LITTLE_ENDIAN:
        return IMPLICIT_LITTLE
    if transfer_syntax_uid == _EXPLICIT_BIG_ENDIAN:
        return EXPLICIT_BIG
    return EXPLICIT_LITTLE  # all other transfer syntaxes: PS3.5 §A.4


def is_deflated(transfer_syntax_uid: str) -> bool:
    """Tell whether a data set in that transfer syntax is deflated."""
    return transfer_syntax_uid in _DEFLATED


@contextmanager
def reader_of(
    descriptor: int, offset: int, transfer_syntax_uid: str, held: bytes | None = None
) -> Iterator[Reader]:
    """Lend a reader of the data set that begins at `offset`, which inflates it if it is deflated.

    `held` is the whole data set in memory; the file is read only if that is deflated.
    """
    deflated = is_deflated(transfer_syntax_uid)
    slot: AbstractContextManager[object] = _INFLATING if deflated else nullcontext()
    with slot:
        reader: Reader
        if deflated:
            reader = InflatedReader(descriptor, offset)
        else:
            reader = FileReader(descriptor, offset) if held is None else HeldReader(held)
        try:
            yield reader
        finally:
            # Free the memory before the semaphore is released. Otherwise the traceback of an error would
            # keep it longer.
            reader.close()


def facts_of(
    header: Header, *, calling_ae_title: str, called_ae_title: str, transfer_syntax_uid: str
) -> Facts:
    """Return what rules may ask of an instance with this header."""
    return Facts(
        calling_ae=calling_ae_title,
        called_ae=called_ae_title,
        sop_class=header.sop_class_uid,
        transfer_syntax=transfer_syntax_uid,
        attributes=header.attributes,
        defect=header.attributes_defect,
    )


def enter_none(_: int) -> bool:
    """Enter no sequence."""
    return False


class _HeaderValues:
    """Collects the values of a header."""

    def __init__(self, *, with_references: bool, asked: Mapping[int, Attribute]) -> None:
        self._with_references = with_references
        self._asked = asked
        self._last = max((*asked, _SERIES_INSTANCE_UID))
        self._character_set = ""
        self._attributes: dict[int, tuple[Value, ...]] = {}
        self._attributes_defect = ""
        self._has_uids = False
        """Whether all was read that is read if no attribute is asked for."""
        self._values: dict[int, str] = {}
        self.instances: dict[str, None] = {}
        self.series: dict[str, None] = {}
        self.studies: dict[str, None] = {}
        self.defect = ""

    def read(self, descriptor: int, offset: int, transfer_syntax_uid: str, held: bytes | None = None) -> Self:
        """Collect the values until all are found, the data set ends, or a limit is reached."""
        with reader_of(descriptor, offset, transfer_syntax_uid, held) as reader:
            try:
                enter = _REFERENCING.__contains__ if self._with_references else enter_none
                # Some data sets have one of the four UIDs after Pixel Data; no references are there.
                until = _PIXEL_DATA if self._with_references else ITEM
                syntax = syntax_of(transfer_syntax_uid)
                begin = None if self._with_references or self._asked else self._take_plain(reader, syntax)
                if self._has_uids:
                    return self
                walk = Walk(reader, syntax, enter, until=until, begin=begin)
                try:
                    self._take(walk, reader)
                finally:
                    self.defect = walk.defect
            except ReadLimitError as error:
                if not self.is_complete():
                    raise
                self._attributes_defect = str(error)
            except DataSetError as error:
                # Nothing but what rules ask for is read after the UIDs. A defect there refuses no instance.
                if self._with_references or not self._has_uids:
                    raise
                self._attributes_defect = str(error)
        return self

    def _take_plain(self, reader: Reader, syntax: Syntax) -> Begin | None:
        """Take the values of the plain elements at the beginning; return where `Walk` continues."""
        found = reader.at(0, HEADER_BYTES)
        if found is None or not isinstance(found[0], bytes):
            return None
        begin = read_plain(
            found[0],
            syntax,
            self._values,
            wanted=_WANTED,
            until=_SERIES_INSTANCE_UID,
            max_value_bytes=_MAX_VALUE_BYTES,
        )
        self._has_uids = self.is_complete()
        return begin

    def _take(self, walk: Walk, reader: Reader) -> None:
        for element in walk:
            if element.depth:
                if self._with_references and element.root in _REFERENCING:
                    self._refer(element, reader)
                continue
            if element.tag in _WANTED and not self._has_uids:
                self._values[element.tag] = value_of(element, reader)
            if element.tag in self._asked:
                self._attributes[element.tag] = self._decoded(element, reader, walk)
            if element.tag == SPECIFIC_CHARACTER_SET and self._asked:
                self._character_set = value_of(element, reader)
            # Series Instance UID is the last one, unless the elements are out of order.
            if not self._has_uids and element.tag >= _SERIES_INSTANCE_UID and self.is_complete():
                self._has_uids = True
                if not self._with_references:
                    walk.end_before(_PIXEL_DATA)
            if self._has_uids and not self._with_references and element.tag >= self._last:
                return

    def _decoded(self, element: Element, reader: Reader, walk: Walk) -> tuple[Value, ...]:
        if element.length > MAX_BYTES:
            return (TOO_LONG,)
        found = reader.at(element.start, element.length)
        if found is None:
            raise DataSetError("cut off in a value")
        buffer, at = found
        return decode(
            bytes(buffer[at : at + element.length]),
            self._asked[element.tag],
            vr=element.vr,
            big_endian=walk.big_endian,
            character_set=self._character_set,
        )

    def is_complete(self) -> bool:
        """Tell whether the four UIDs were found."""
        return all(self._values.get(tag) for tag in _NEEDED)

    def header(self) -> Header:
        """Return the values that were found.

        Raises:
            DataSetError: a UID is missing.
        """
        missing = [f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in _NEEDED if not self._values.get(tag)]
        if missing:
            raise DataSetError(f"the data set has no {', '.join(missing)}")
        return Header(
            sop_class_uid=self._values[_SOP_CLASS_UID],
            sop_instance_uid=self._values[_SOP_INSTANCE_UID],
            study_instance_uid=self._values[_STUDY_INSTANCE_UID],
            series_instance_uid=self._values[_SERIES_INSTANCE_UID],
            modality=self._values.get(_MODALITY, ""),
            series_description=self._values.get(_SERIES_DESCRIPTION, ""),
            referenced_sop_instance_uids=(),
            referenced_series_instance_uids=(),
            attributes=self._attributes,
            attributes_defect=self._attributes_defect,
        )

    def _refer(self, element: Element, reader: Reader) -> None:
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
        uid = value_of(element, reader)
        # An invalid UID references no stored instance.
        if not is_uid(uid, MAX_DATA_SET_UID_LENGTH):
            return
        for uids in found:
            if len(uids) < MAX_REFERENCES:
                uids[uid] = None


def value_of(element: Element, reader: Reader) -> str:
    """Return the value without padding, at most its first 256 bytes, which no valid value exceeds."""
    count = min(element.length, _MAX_VALUE_BYTES)
    found = reader.at(element.start, count)
    if found is None:
        raise DataSetError("cut off in a value")
    buffer, at = found
    return text_of(bytes(buffer[at : at + count]))
