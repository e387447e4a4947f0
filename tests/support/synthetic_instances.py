"""Small data sets made by hand: a few elements in Explicit VR Little Endian and a payload."""

import itertools
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from gateway.dicom.contexts import ProposedContext

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
MG = "1.2.840.10008.5.1.4.1.1.1.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
EXPLICIT = "1.2.840.10008.1.2.1"
PATIENT = "Secret^Patient"
"""In each of them; it must be in no log line, message or row."""

_ROOT = f"1.2.826.0.1.{os.getpid()}"
_numbers = itertools.count(1)


def new_uid() -> str:
    """Return a UID that no other instance of this session has."""
    return f"{_ROOT}.{next(_numbers)}"


@dataclass(frozen=True)
class Instance:
    """One SOP Instance; equal fields give equal bytes."""

    sop_instance_uid: str = field(default_factory=new_uid)
    study_instance_uid: str = field(default_factory=new_uid)
    series_instance_uid: str = "1.2.3.4"
    sop_class_uid: str = CT
    series_description: str = "AXIAL"
    modality: str = "CT"
    sources: tuple[tuple[str, str], ...] = ()
    referenced_study: str | None = None
    referenced_series: str | None = None
    payload: bytes = b"\x01\x02" * 512

    @property
    def context(self) -> ProposedContext:
        """Return the presentation context that the instance needs."""
        return ProposedContext(self.sop_class_uid, EXPLICIT)

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the data set in hex."""
        return sha256(self.data_set()).hexdigest()

    def data_set(self) -> bytes:
        """Return the encoded data set."""
        parts = [
            _element(0x0008_0016, b"UI", _uid(self.sop_class_uid)),
            _element(0x0008_0018, b"UI", _uid(self.sop_instance_uid)),
            _element(0x0008_0060, b"CS", _text(self.modality)),
            _element(0x0008_103E, b"LO", _text(self.series_description)),
        ]
        if self.referenced_study:
            parts.append(_sequence(0x0008_1110, [("1.2.840.10008.3.1.2.3.1", self.referenced_study)]))
        if self.referenced_series:
            parts.append(_items(0x0008_1115, [_element(0x0020_000E, b"UI", _uid(self.referenced_series))]))
        if self.sources:
            parts.append(_sequence(0x0008_2112, self.sources))
        parts += [
            _element(0x0010_0010, b"PN", _text(PATIENT)),
            _element(0x0020_000D, b"UI", _uid(self.study_instance_uid)),
            _element(0x0020_000E, b"UI", _uid(self.series_instance_uid)),
            _long_element(0x7FE0_0010, b"OW", self.payload),
        ]
        return b"".join(parts)


def study_of(count: int, *, payload: bytes = b"\x01\x02" * 512) -> list[Instance]:
    """Return that many instances of one new study."""
    study = new_uid()
    return [Instance(study_instance_uid=study, payload=payload) for _ in range(count)]


def result_of(*sources: Instance, study: str | None = None, number: int = 0) -> Instance:
    """Return a result that references `sources`; without sources, a result in `study`."""
    return Instance(
        study_instance_uid=study or sources[0].study_instance_uid,
        sop_class_uid=SECONDARY_CAPTURE,
        series_description="AI_RESULT",
        modality="OT",
        sources=tuple((source.sop_class_uid, source.sop_instance_uid) for source in sources),
        payload=struct.pack("<H", number) * 8,
    )


def _uid(text: str) -> bytes:
    raw = text.encode()
    return raw + b"\0" * (len(raw) % 2)


def _text(text: str) -> bytes:
    raw = text.encode()
    return raw + b" " * (len(raw) % 2)


def _tag(tag: int) -> bytes:
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF)


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    return _tag(tag) + vr + struct.pack("<H", len(value)) + value


def _long_element(tag: int, vr: bytes, value: bytes) -> bytes:
    return _tag(tag) + vr + b"\0\0" + struct.pack("<I", len(value)) + value


def _sequence(tag: int, references: Sequence[tuple[str, str]]) -> bytes:
    return _items(
        tag,
        [
            _element(0x0008_1150, b"UI", _uid(sop_class_uid))
            + _element(0x0008_1155, b"UI", _uid(sop_instance_uid))
            for sop_class_uid, sop_instance_uid in references
        ],
    )


def _items(tag: int, contents: Sequence[bytes]) -> bytes:
    items = (_tag(0xFFFE_E000) + struct.pack("<I", len(content)) + content for content in contents)
    return _long_element(tag, b"SQ", b"".join(items))
