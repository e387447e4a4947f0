"""Read the UIDs of a data set, and for a result the instances from which it was derived.

The receiver reads them from the spooled file after the last byte and before the flush. Only the listed
values, and those that rules ask for, are decoded; other attributes are skipped by their length. The
references are collected in references.py.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Self

from gateway.dicom.dataset.elements import Walk, enter_none
from gateway.dicom.dataset.encoding import HEADER_BYTES, ITEM, Syntax, is_deflated, syntax_of
from gateway.dicom.dataset.plain import Begin, read_plain
from gateway.dicom.dataset.reader import Reader, ReadLimitError, reader_of
from gateway.dicom.dataset.references import REFERENCING, ReferencedUids
from gateway.dicom.dataset.values import (
    MAX_TEXT_BYTES,
    SPECIFIC_CHARACTER_SET,
    text_of_element,
    values_of_element,
)
from gateway.errors import DataSetError
from gateway.rules.dictionary import Attribute
from gateway.rules.facts import Facts, Value

_SOP_CLASS_UID = 0x0008_0016
_SOP_INSTANCE_UID = 0x0008_0018
_MODALITY = 0x0008_0060
_SERIES_DESCRIPTION = 0x0008_103E
_STUDY_INSTANCE_UID = 0x0020_000D
_SERIES_INSTANCE_UID = 0x0020_000E
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


NOTHING: Mapping[int, tuple[Value, ...]] = MappingProxyType({})


class Header(NamedTuple):
    """Values of a data set, without padding, not validated; the four UIDs are never empty.

    `referenced_…` are UIDs in their order, without repeats, at most MAX_REFERENCES; empty unless requested.
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
    attributes: Mapping[int, tuple[Value, ...]] = NOTHING
    attributes_defect: str = ""


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
    References after a defect, or beyond the limits of the reader and MAX_REFERENCES, are left out: a defect
    after the UIDs is no error.

    Raises:
        DataSetError: it cannot be parsed as far as needed, or one of the four UIDs is missing.
    """
    values = _HeaderValues(None, asked)
    header = values.read(descriptor, offset, transfer_syntax_uid, held).header()
    if not with_references:
        return header
    references = ReferencedUids()
    values = _HeaderValues(references, {})
    defect = ""
    try:
        values.read(descriptor, offset, transfer_syntax_uid)
    except DataSetError as error:
        defect = str(error)
    return header._replace(
        referenced_sop_instance_uids=tuple(references.instances),
        referenced_series_instance_uids=tuple(references.series),
        referenced_study_instance_uids=tuple(references.studies),
        defect=values.defect or defect,
    )


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


class _HeaderValues:
    """Collects the values of a header, and the `references`, unless they are None."""

    def __init__(self, references: ReferencedUids | None, asked: Mapping[int, Attribute]) -> None:
        self._references = references
        self._asked = asked
        self._last = max((*asked, _SERIES_INSTANCE_UID))
        self._character_set = ""
        self._attributes: dict[int, tuple[Value, ...]] = {}
        self._attributes_defect = ""
        self._has_uids = False
        """Whether all was read that is read if no attribute is asked for."""
        self._values: dict[int, str] = {}
        self.defect = ""

    def read(self, descriptor: int, offset: int, transfer_syntax_uid: str, held: bytes | None = None) -> Self:
        """Collect the values until all are found, the data set ends, or a limit is reached."""
        reads_all = self._references is not None or bool(self._asked)
        syntax = syntax_of(transfer_syntax_uid)
        begin = None
        if held is not None and not reads_all and not is_deflated(transfer_syntax_uid):
            begin = self._take_plain(held, syntax)
            if self._has_uids:  # nearly always, and without a reader
                return self
        with reader_of(descriptor, offset, transfer_syntax_uid, held) as reader:
            try:
                enter = enter_none if self._references is None else REFERENCING.__contains__
                # Some data sets have one of the four UIDs after Pixel Data; no references are there.
                until = ITEM if self._references is None else _PIXEL_DATA
                found = None if reads_all or begin else reader.at(0, HEADER_BYTES)
                if found is not None and isinstance(found[0], bytes):
                    begin = self._take_plain(found[0], syntax)
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
                if self._references is not None or not self._has_uids:
                    raise
                self._attributes_defect = str(error)
        return self

    def _take_plain(self, buffer: bytes, syntax: Syntax) -> Begin | None:
        """Take the values of the plain elements at the beginning; return where `Walk` continues."""
        begin = read_plain(
            buffer,
            syntax,
            self._values,
            wanted=_WANTED,
            until=_SERIES_INSTANCE_UID,
            max_value_bytes=MAX_TEXT_BYTES,
        )
        self._has_uids = self.is_complete()
        return begin

    def _take(self, walk: Walk, reader: Reader) -> None:
        for element in walk:
            if element.depth:
                if self._references is not None and element.root in REFERENCING:
                    self._references.take(element, reader)
                continue
            if element.tag in _WANTED and not self._has_uids:
                self._values[element.tag] = text_of_element(element, reader)
            if element.tag in self._asked:
                self._attributes[element.tag] = values_of_element(
                    element,
                    reader,
                    self._asked[element.tag],
                    big_endian=walk.big_endian,
                    character_set=self._character_set,
                )
            if element.tag == SPECIFIC_CHARACTER_SET and self._asked:
                self._character_set = text_of_element(element, reader)
            # Series Instance UID is the last one, unless the elements are out of order.
            if not self._has_uids and element.tag >= _SERIES_INSTANCE_UID and self.is_complete():
                self._has_uids = True
                if self._references is None:
                    walk.end_before(_PIXEL_DATA)
            if self._has_uids and self._references is None and element.tag >= self._last:
                return

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
