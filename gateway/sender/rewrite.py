"""Rewrite instances with other UIDs or another patient, so that they can be sent again as new instances.

Each file gets its own SOP Instance UID, even if two files shared one. Study, Series and Frame of Reference
UIDs are mapped for all files together, so that a study stays one study; on request they are mapped for each
file. References to instances, series and studies that are also sent get the new UIDs; other references stay.
The transfer syntax stays, and pixel data is copied without decoding.
"""

import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.multival import MultiValue
from pydicom.uid import UID, generate_uid
from pydicom.valuerep import STR_VR

from gateway.sender.collect import NotSendableError, Skipped, read
from gateway.sender.outgoing import Outgoing

_FRAME_OF_REFERENCE = 0x00200052

# What pydicom raises for a file that is broken after its header.
_UNPARSABLE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Edits:
    """The changes to make; None and False change nothing.

    `attributes` are set in the data set (keyword → text), for example PatientID. With `per_file` each file
    gets its own study and series.
    """

    new_uids: bool = False
    per_file: bool = False
    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(
            self.new_uids
            or self.study_instance_uid
            or self.series_instance_uid
            or self.sop_instance_uid
            or self.attributes
        )


def rewrite(instances: Sequence[Outgoing], edits: Edits, folder: Path) -> Iterator[Outgoing | Skipped]:
    """Write each instance to a new Part 10 file under `folder`, and yield it, in the same order.

    A file that pydicom cannot read whole or write again is skipped, and counts as named by the user.

    Raises:
        ValueError: one SOP Instance UID is given for several instances.
        OSError: a file cannot be read or written.
    """
    if edits.sop_instance_uid is not None and len(instances) != 1:
        raise ValueError("a SOP Instance UID names one instance, but more are to be sent")
    planned = _planned(instances, edits)
    # If several files had the old UID, a reference to it gets the new UID of the first of them.
    shared: dict[str, str] = {}
    for own in planned:
        for old, new in own.items():
            shared.setdefault(old, new)
    for instance, own in zip(instances, planned, strict=True):
        try:
            yield _rewritten(instance, _Mapping(shared, own, edits), folder)
        except NotSendableError as error:
            yield Skipped(instance.path, str(error), named=True)


def _planned(instances: Iterable[Outgoing], edits: Edits) -> list[dict[str, str]]:
    """Return for each instance its own old UIDs and their new ones."""
    known: dict[str, str] = {}

    def of(old: str) -> str:
        return known.setdefault(old, generate_uid(prefix=None))

    planned = []
    for instance in instances:
        if edits.per_file:
            known.clear()
        own = {}
        if edits.new_uids:
            own = {
                instance.study_instance_uid: of(instance.study_instance_uid),
                instance.series_instance_uid: of(instance.series_instance_uid),
                instance.sop_instance_uid: str(generate_uid(prefix=None)),
            }
        for old, new in (
            (instance.study_instance_uid, edits.study_instance_uid),
            (instance.series_instance_uid, edits.series_instance_uid),
            (instance.sop_instance_uid, edits.sop_instance_uid),
        ):
            if new is not None:
                own[old] = new
        planned.append(own)
    return planned


class _Mapping:
    """Maps old to new UIDs for one file: its own UIDs first, then those of the other files."""

    def __init__(self, shared: dict[str, str], own: dict[str, str], edits: Edits) -> None:
        self._shared = shared
        self._own = own
        self.edits = edits

    def new(self, old: str) -> str | None:
        return self._own.get(old) or self._shared.get(old)

    def frame_of_reference(self, old: str) -> str:
        """Return the new UID of a frame of reference; all files share it, unless UIDs are mapped per file."""
        mapping = self._own if self.edits.per_file else self._shared
        return mapping.setdefault(old, str(generate_uid(prefix=None)))


def _rewritten(instance: Outgoing, mapping: _Mapping, folder: Path) -> Outgoing:
    with warnings.catch_warnings():
        # pydicom warns of invalid values; they are sent as they are.
        warnings.simplefilter("ignore")
        try:
            content = _edited(instance, mapping)
            encoded = BytesIO()
            content.save_as(encoded)
        except _UNPARSABLE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # an error of the file system; pydicom's OSError for a short file has no errno
            raise NotSendableError(f"cannot be rewritten: {type(error).__name__}") from error
    path = _free_path(folder / str(content.StudyInstanceUID), str(content.SOPInstanceUID))
    path.write_bytes(encoded.getbuffer())
    return replace(read(path), origin=instance.origin)


def _edited(instance: Outgoing, mapping: _Mapping) -> Dataset:
    content = dcmread(instance.path)
    frame = content.get(_FRAME_OF_REFERENCE)
    if mapping.edits.new_uids and frame is not None and frame.value:
        mapping.frame_of_reference(str(frame.value))
    if not UID(instance.transfer_syntax_uid).is_implicit_VR:
        _determine_vrs(content)
    _replace(content, mapping)
    # A wrong file may use one UID as Study and Series Instance UID: set each by its keyword.
    _assign(content, instance, mapping)
    for keyword, text in mapping.edits.attributes.items():
        setattr(content, keyword, text)
    content.file_meta.MediaStorageSOPInstanceUID = content.SOPInstanceUID
    return content


def _free_path(folder: Path, name: str) -> Path:
    """Return an unused path: files with the same SOP Instance UID may be rewritten without new UIDs."""
    folder.mkdir(parents=True, exist_ok=True)
    path, number = folder / f"{name}.dcm", 1
    while path.exists():
        number += 1
        path = folder / f"{name}.{number}.dcm"
    return path


def _assign(content: Dataset, instance: Outgoing, mapping: _Mapping) -> None:
    edits = mapping.edits
    for keyword, old, given in (
        ("StudyInstanceUID", instance.study_instance_uid, edits.study_instance_uid),
        ("SeriesInstanceUID", instance.series_instance_uid, edits.series_instance_uid),
        ("SOPInstanceUID", instance.sop_instance_uid, edits.sop_instance_uid),
    ):
        new = given or mapping.new(old)
        if new is not None:
            setattr(content, keyword, UID(new))


def _replace(content: Dataset, mapping: _Mapping) -> None:
    """Replace every UID in the mapping, at any depth; copy other elements without decoding them."""
    for tag in list(content.keys()):
        element: DataElement | RawDataElement = content.get_item(tag)
        vr = element.VR
        if isinstance(element, RawDataElement) and vr in {None, "UN"}:
            vr = _dictionary_vr(tag)
        if vr == "SQ":
            for item in content[tag].value or ():
                _replace(item, mapping)
        elif vr == "UI":
            _replace_value(content[tag], mapping)
        elif isinstance(element, RawDataElement):
            content[tag] = _padded(element, vr)


def _replace_value(element: DataElement, mapping: _Mapping) -> None:
    values = element.value if isinstance(element.value, MultiValue) else [element.value]
    replaced = [UID(mapping.new(str(value)) or str(value)) for value in values if value]
    if replaced and replaced != list(values):
        element.value = replaced if len(replaced) > 1 else replaced[0]


def _determine_vrs(content: Dataset) -> None:
    """Give each element without a VR in an explicit file its VR; pydicom could not write it otherwise."""
    for tag in list(content.keys()):
        element: DataElement | RawDataElement = content.get_item(tag)
        if isinstance(element, RawDataElement) and element.VR is None:
            _ = content[tag]  # decodes it in place


def _padded(element: RawDataElement, vr: str | None) -> RawDataElement:
    """Pad a value of odd length: some peers abort the association because of it (PS3.5 §7.1.1)."""
    value = element.value
    if not value or len(value) % 2 == 0:
        return element
    padded = value + (b" " if vr in STR_VR else b"\0")
    return element._replace(value=padded, length=len(padded))


def _dictionary_vr(tag: int) -> str | None:
    try:
        return dictionary_VR(tag)
    except KeyError:  # a private or unknown tag: the element is copied
        return None
