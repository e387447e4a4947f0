"""A walk over the elements of a data set, without recursion and without decoding values (PS3.5 §7).

Robust where writers are known to be wrong: a data set that is implicit where it was negotiated explicit
or the reverse (seen at its first element), File Meta Information in front of it, elements out of order, odd
lengths, and VRs that are none. A length that leads outside of the data set, or outside of what holds it, is
an error. It names the tag, and the byte of the data set at which the element begins.
"""

import mmap
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.dicom.dataset.reader import ExaminedEnoughError, Reader
from gateway.errors import DataSetError

MAX_DEPTH = 64
"""Sequences and items in one another; the deepest honest ones (SR content trees) have some 30 levels."""

MAX_ELEMENTS = 250_000
"""Half a second of walking: what a stranger may cost us. Headers have hundreds, those with references of
ten thousand frames some hundred thousand."""

UNDEFINED = 0xFFFFFFFF
ITEM = 0xFFFEE000
ITEM_END = 0xFFFEE00D
SEQUENCE_END = 0xFFFEE0DD

_FILE_META_GROUP = 0x0002
PREAMBLE_BYTES = 128
_PREFIX = b"DICM"  # behind the preamble of a Part 10 file, which some senders send whole
_HEADER = 8
_LONG_HEADER = 12

# PS3.5 §7.1.2, Tables 7.1-1 and 7.1-2: VRs with a length of two bytes, and of four
_TEXT_VRS = (b"AE", b"AS", b"CS", b"DA", b"DS", b"DT", b"IS", b"LO", b"LT", b"PN", b"SH", b"ST", b"TM", b"UI")
_NUMBER_VRS = (b"AT", b"FD", b"FL", b"SL", b"SS", b"UL", b"US")
_SHORT_VRS = frozenset((*_TEXT_VRS, *_NUMBER_VRS))
LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_VRS = _SHORT_VRS | LONG_VRS
_NO_VRS = frozenset((b"??", b"--", b"  "))
"""What writers are known to write where they have no VR."""


@dataclass(frozen=True, slots=True)
class Syntax:
    """How elements are encoded: PS3.5 §A."""

    explicit: bool
    big_endian: bool = False


IMPLICIT_LITTLE = Syntax(explicit=False)
EXPLICIT_LITTLE = Syntax(explicit=True)
EXPLICIT_BIG = Syntax(explicit=True, big_endian=True)


@dataclass(frozen=True, slots=True)
class Element:
    """One element with a value: its tag, the top-level tag it stands under (its own there), and its value.

    `depth` is 0 for the elements of the data set itself.
    """

    tag: int
    root: int
    depth: int
    start: int
    length: int


@dataclass(slots=True)
class _Frame:
    """A sequence or item that was entered; `end` is None where its length is undefined."""

    kind: str  # sequence | item | fragments
    end: int | None
    syntax: Syntax


class Walk:
    """Iterates over the elements in the order of their bytes.

    `enter` says by its top-level tag whether a sequence is entered; others are skipped by their
    length, or walked over where they have none. The walk ends before the first top-level tag from
    `until` on, whose length is not even looked at. Entering changes nothing of what is found at the top: a
    sequence with a length that is broken inside is left at its end, and `defect` says what was found.
    """

    def __init__(self, window: Reader, syntax: Syntax, enter: Callable[[int], bool], *, until: int) -> None:
        self._window = window
        self._enter = enter
        self._until = until
        self._frames: list[_Frame] = []
        self._position = 0
        self._root = 0
        self._tag: int | None = None
        self._tag_position = 0
        self.defect = ""
        try:
            self._position = self._after_file_meta()
            self._syntax = self._as_written(syntax)
        except DataSetError as error:
            raise self._located(error) from error

    def __iter__(self) -> Iterator[Element]:
        """Yield each element that has a value and stands at the top, or in what was entered.

        Raises:
            DataSetError: cut off, too deep, or a length that cannot be.
            ExaminedEnoughError: there was no end within the bounds.
        """
        for _ in range(MAX_ELEMENTS):
            try:
                self._leave_what_has_ended()
                if not self._frames and not self._window.reaches(self._position + 1):
                    return
                syntax = self._frames[-1].syntax if self._frames else self._syntax
                tag, vr, length, start = self._header(syntax)
                if not self._frames and self._until <= tag < ITEM:
                    return
                element = self._next(tag, vr, length, start)
            except DataSetError as error:
                if not self._leave_broken_sequence(error):
                    raise self._located(error) from error
                continue
            if element is not None:
                yield element
        raise ExaminedEnoughError(f"more than {MAX_ELEMENTS} elements")

    # ---- inside --------------------------------------------------------------------------------------

    def _located(self, error: DataSetError) -> DataSetError:
        """The error with the tag and the byte at which its element begins; an Error Comment holds it."""
        tag = "" if self._tag is None else f"({self._tag >> 16:04X},{self._tag & 0xFFFF:04X}) "
        return type(error)(f"{tag}at byte {self._tag_position}: {error}")

    def _leave_broken_sequence(self, error: DataSetError) -> bool:
        """Go on behind the top-level sequence, as if it had been skipped; False where it has no length."""
        if isinstance(error, ExaminedEnoughError) or not self._frames or self._frames[0].end is None:
            return False
        self.defect = self.defect or str(self._located(error))
        self._position = self._frames[0].end
        self._frames.clear()
        return True

    def _leave_what_has_ended(self) -> None:
        frames = self._frames
        while frames:
            end = frames[-1].end
            if end is None or self._position < end:
                return
            if self._position > end:
                raise DataSetError("reaches beyond what holds it")
            frames.pop()

    def _next(self, tag: int, vr: bytes, length: int, start: int) -> Element | None:
        """Step over, or into, the element whose header was read."""
        frame = self._frames[-1] if self._frames else None
        syntax = frame.syntax if frame is not None else self._syntax
        if tag >> 16 == 0xFFFE:  # noqa: PLR2004  items and delimiters
            self._delimiter(frame, tag, length, start)
            return None
        if frame is not None and frame.kind != "item":
            raise DataSetError("stands where an item must")
        if frame is None:
            self._root = tag
        depth = len(self._frames)
        if length == UNDEFINED:
            self._enter_undefined(vr, syntax, start)
            return None
        self._check(start, length)
        is_sequence = vr == b"SQ" if syntax.explicit else True
        if is_sequence and length and self._enter(self._root) and self._holds_items(start, length, syntax):
            self._push(_Frame("sequence", start + length, syntax))
            self._position = start
            return None
        self._position = start + length
        return Element(tag, self._root, depth, start, length)

    def _header(self, syntax: Syntax) -> tuple[int, bytes, int, int]:
        """Tag, VR (empty where implicit), length, and where the value starts."""
        self._tag, self._tag_position = None, self._position
        found = self._window.at(self._position, _HEADER)
        if found is None:
            inside = f" inside ({self._root >> 16:04X},{self._root & 0xFFFF:04X})" if self._frames else ""
            raise DataSetError(f"cut off in an element header{inside}")
        buffer, at = found
        order = ">" if syntax.big_endian else "<"
        group, number = struct.unpack_from(order + "HH", buffer, at)
        self._tag = tag = group << 16 | number
        vr = bytes(buffer[at + 4 : at + 6])
        if not syntax.explicit or group == 0xFFFE:  # noqa: PLR2004  items and delimiters have no VR
            return tag, b"", struct.unpack_from(order + "I", buffer, at + 4)[0], self._position + _HEADER
        if not _may_be_vr(vr):
            return tag, b"", self._length_without_vr(buffer, at, order), self._position + _HEADER
        if vr in _SHORT_VRS:
            return tag, vr, struct.unpack_from(order + "H", buffer, at + 6)[0], self._position + _HEADER
        # Unknown VRs are of the long form, as all that were ever added: PS3.5 §7.1.2.
        found = self._window.at(self._position, _LONG_HEADER)
        if found is None:
            raise DataSetError("cut off in an element header")
        buffer, at = found
        return tag, vr, struct.unpack_from(order + "I", buffer, at + 8)[0], self._position + _LONG_HEADER

    def _length_without_vr(self, buffer: bytes | mmap.mmap, at: int, order: str) -> int:
        """The length in the header of an explicit element whose VR is none.

        Either a length of two bytes follows: so DCMTK reads all VRs that are not two capital letters
        (dcvr.cc). Or the element is implicit. The reading after which an element stands is the right one.
        """
        long = int(struct.unpack_from(order + "I", buffer, at + 4)[0])
        short = int(struct.unpack_from(order + "H", buffer, at + 6)[0])
        start = self._position + _HEADER
        if long == UNDEFINED:
            return long
        if self._is_followed(start + short, order):
            return short
        if self._is_followed(start + long, order):
            return long
        return long if not short and self._window.reaches(start + long) else short

    def _begins_with_long_form(self) -> bool:
        """Tell whether the first element is one of a VR that is not defined yet."""
        found = self._window.at(self._position, _LONG_HEADER)
        if found is None:
            return False
        buffer, at = found
        length = int.from_bytes(buffer[at + 8 : at + 12], "little")
        return self._is_followed(self._position + _LONG_HEADER + length, "<")

    def _is_followed(self, position: int, order: str) -> bool:
        """Tell whether an explicit element, an item, a delimiter or the end stands at `position`."""
        end = self._frames[-1].end if self._frames else None
        if position == end:
            return True
        found = self._window.at(position, _HEADER)
        if found is None:
            return (
                not self._frames and self._window.reaches(position) and not self._window.reaches(position + 1)
            )
        buffer, at = found
        group, number = struct.unpack_from(order + "HH", buffer, at)
        vr = bytes(buffer[at + 4 : at + 6])
        is_delimiter = group << 16 | number in {ITEM, ITEM_END, SEQUENCE_END}
        return vr in _VRS or vr in _NO_VRS or (is_delimiter and bool(self._frames))

    def _delimiter(self, frame: _Frame | None, tag: int, length: int, start: int) -> None:
        """Enter an item, or leave what a delimiter ends (PS3.5 §7.5.2, Tables 7.5-1 to 7.5-3)."""
        self._position = start
        if frame is None:
            raise DataSetError("delimiter outside of a sequence")
        if tag == ITEM and frame.kind != "item":
            if length != UNDEFINED:
                self._check(start, length)
                if frame.kind == "fragments":
                    self._position = start + length
                    return
            elif frame.kind == "fragments":
                raise DataSetError("a fragment without a length")
            self._push(_Frame("item", None if length == UNDEFINED else start + length, frame.syntax))
        elif tag == (ITEM_END if frame.kind == "item" else SEQUENCE_END):
            self._frames.pop()
            if frame.end is not None and self._position < frame.end:
                self._position = frame.end  # superfluous where there is a length, which decides
        else:
            raise DataSetError("delimiter out of place")

    def _enter_undefined(self, vr: bytes, syntax: Syntax, start: int) -> None:
        if vr == b"UN":
            syntax = IMPLICIT_LITTLE  # whatever surrounds it: PS3.5 §6.2.2, note 7
        is_sequence = vr in {b"", b"SQ", b"UN"}
        self._push(_Frame("sequence" if is_sequence else "fragments", None, syntax))
        self._position = start

    def _push(self, frame: _Frame) -> None:
        if len(self._frames) >= MAX_DEPTH:
            raise DataSetError(f"more than {MAX_DEPTH} sequences deep")
        self._frames.append(frame)

    def _check(self, start: int, length: int) -> None:
        if not self._window.reaches(start + length):
            raise DataSetError("cut off in a value")

    def _holds_items(self, start: int, length: int, syntax: Syntax) -> bool:
        """Tell a sequence from another value, where the encoding does not say."""
        found = self._window.at(start, 4) if length >= _HEADER else None
        if found is None:
            return False
        buffer, at = found
        return bytes(buffer[at : at + 4]) == (
            b"\xff\xfe\xe0\x00" if syntax.big_endian else b"\xfe\xff\x00\xe0"
        )

    def _after_file_meta(self) -> int:
        """Where the data set begins behind a preamble and group 0002, which do not belong there."""
        found = self._window.at(0, PREAMBLE_BYTES + len(_PREFIX))
        if found is not None:
            buffer, at = found
            prefix = bytes(buffer[at + PREAMBLE_BYTES : at + PREAMBLE_BYTES + len(_PREFIX)])
            self._position = PREAMBLE_BYTES + len(_PREFIX) if prefix == _PREFIX else 0
        while True:
            found = self._window.at(self._position, _HEADER)
            if found is None:
                return self._position
            buffer, at = found
            if int.from_bytes(buffer[at : at + 2], "little") != _FILE_META_GROUP:
                return self._position
            _, _, length, start = self._header(EXPLICIT_LITTLE)
            if length == UNDEFINED:
                raise DataSetError("group 0002 without a length")
            self._check(start, length)
            self._position = start + length

    def _as_written(self, syntax: Syntax) -> Syntax:
        """What the first element says of explicit and implicit, against what was negotiated."""
        found = self._window.at(self._position, _HEADER)
        if syntax.big_endian or found is None:
            return syntax
        buffer, at = found
        vr = bytes(buffer[at + 4 : at + 6])
        if vr in _VRS:
            return EXPLICIT_LITTLE
        if syntax.explicit and _may_be_vr(vr):
            return EXPLICIT_LITTLE if self._begins_with_long_form() else IMPLICIT_LITTLE
        if syntax.explicit:
            # A VR that is none, or an implicit data set: what stands behind its first element tells.
            short = int.from_bytes(buffer[at + 6 : at + 8], "little")
            if self._is_followed(self._position + _HEADER + short, "<"):
                return EXPLICIT_LITTLE
        return IMPLICIT_LITTLE


def _may_be_vr(vr: bytes) -> bool:
    """Tell whether these are two capital letters, as all VRs are that were ever defined, or will be."""
    return vr.isalpha() and vr.isupper()
