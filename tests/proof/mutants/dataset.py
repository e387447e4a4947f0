"""A small valid data set, element by element, in the four encodings of PS3.5 §A."""

import struct
import zlib
from dataclasses import dataclass, replace

from support.synthetic_instances import CT

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG = "1.2.840.10008.1.2.2"
SYNTAXES = {"explicit": EXPLICIT, "implicit": IMPLICIT, "deflated": DEFLATED, "big endian": BIG}
UNDEFINED = 0xFFFF_FFFF
LONG_VRS = frozenset((b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"UR"))


@dataclass(frozen=True)
class Coding:
    """How elements are encoded."""

    explicit: bool
    big: bool = False

    @property
    def order(self) -> str:
        """Return the byte order as `struct` writes it."""
        return ">" if self.big else "<"

    def element(self, tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
        """Return one element; `length` replaces its true length."""
        size = len(value) if length is None else length
        group, number = tag >> 16, tag & 0xFFFF
        if not self.explicit:
            return struct.pack(self.order + "HHI", group, number, size & UNDEFINED) + value
        if vr in LONG_VRS:
            return struct.pack(self.order + "HH2sHI", group, number, vr, 0, size & UNDEFINED) + value
        return struct.pack(self.order + "HH2sH", group, number, vr, size & 0xFFFF) + value

    def mark(self, number: int, length: int = 0) -> bytes:
        """Return an item or delimiter: group FFFE."""
        return struct.pack(self.order + "HHI", 0xFFFE, number, length)

    def item(self, content: bytes, *, open_: bool = False, ended: bool = True) -> bytes:
        """Return an item with a length, or with a delimiter unless that is left out."""
        if not open_:
            return self.mark(0xE000, len(content)) + content
        return self.mark(0xE000, UNDEFINED) + content + (self.mark(0xE00D) if ended else b"")

    def sequence(self, tag: int, content: bytes, *, open_: bool = False, ended: bool = True) -> bytes:
        """Return a sequence of encoded items, with a length or a delimiter."""
        if not open_:
            return self.element(tag, b"SQ", content)
        return self.element(tag, b"SQ", content, UNDEFINED) + (self.mark(0xE0DD) if ended else b"")

    def number(self, value: int) -> bytes:
        """Return a value of VR US."""
        return struct.pack(self.order + "H", value)


CODINGS = {IMPLICIT: Coding(False), EXPLICIT: Coding(True), DEFLATED: Coding(True), BIG: Coding(True, True)}


@dataclass(frozen=True)
class Plan:
    """The plan of one instance: its UIDs, as they stand in the data set, and its transfer syntax."""

    sop_instance_uid: str
    study_instance_uid: bytes
    series_instance_uid: bytes
    transfer_syntax_uid: str
    open_: bool = False
    """Whether its sequences have undefined length."""

    @property
    def coding(self) -> Coding:
        """Return the coding of its transfer syntax."""
        return CODINGS[self.transfer_syntax_uid]

    def coded(self, transfer_syntax_uid: str) -> "Plan":
        """Return the same plan in another transfer syntax."""
        return replace(self, transfer_syntax_uid=transfer_syntax_uid)

    def elements(self) -> dict[int, bytes]:
        """Return each encoded element by its tag, in order."""
        c = self.coding
        reference = c.element(0x0008_1150, b"UI", text(CT, b"\0")) + c.element(0x0008_1155, b"UI", b"1.2.3\0")
        plain = [
            (0x0008_0008, b"CS", b"ORIGINAL\\PRIMARY"),
            (0x0008_0016, b"UI", text(CT, b"\0")),
            (0x0008_0018, b"UI", text(self.sop_instance_uid, b"\0")),
            (0x0008_0020, b"DA", b"20260101"),
            (0x0008_0060, b"CS", b"CT"),
            (0x0008_103E, b"LO", b"SYNTHETIC "),
            (0x0010_0010, b"PN", b"TEST^SYNTHETIC"),
            (0x0010_0020, b"LO", b"SYNTH1"),
            (0x0010_21B0, b"LT", b"A NOTE"),
            (0x0018_0050, b"DS", b"1.25"),
            (0x0020_000D, b"UI", pad(self.study_instance_uid, b"\0")),
            (0x0020_000E, b"UI", pad(self.series_instance_uid, b"\0")),
            (0x0020_0013, b"IS", b"1 "),
            (0x0028_0010, b"US", c.number(2)),
            (0x0028_0011, b"US", c.number(2)),
            (0x0029_0010, b"LO", b"SYNTHETIC "),
            (0x0029_1001, b"OB", b"\1\2\3\4"),
            (0x7FE0_0010, b"OW", bytes(8)),
        ]
        found = {tag: c.element(tag, vr, value) for tag, vr, value in plain}
        for tag in (0x0008_1140, 0x0040_A375):
            found[tag] = c.sequence(tag, c.item(reference, open_=self.open_) * 2, open_=self.open_)
        return dict(sorted(found.items()))


def pad(raw: bytes, by: bytes) -> bytes:
    """Pad to an even length."""
    return raw + by if len(raw) % 2 else raw


def text(value: str, by: bytes = b" ") -> bytes:
    """Return a value of text."""
    return pad(value.encode(), by)


def deflated(raw: bytes) -> bytes:
    """Deflate (PS3.5 §A.5)."""
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return pad(deflate.compress(raw) + deflate.flush(), b"\0")
