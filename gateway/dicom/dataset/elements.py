"""Iterate over the elements of a data set, without recursion and without decoding values (PS3.5 §7).

Common errors of other programs are tolerated: implicit VR although explicit VR was negotiated, or the
reverse; File Meta Information before the data set; elements out of order; odd lengths; invalid VRs.
as_written.py finds out what such a program has written.

A length that reaches beyond the data set, or beyond the sequence or item around the element, is an error. The
error names the tag, and the byte of the data set at which the element begins.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.dicom.dataset.as_written import holds_items, length_without_vr, syntax_as_written
from gateway.dicom.dataset.encoding import (
    DELIMITERS,
    EXPLICIT_LITTLE,
    FILE_META_GROUP,
    GROUP_OF_DELIMITERS,
    HEADER_BYTES,
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_END,
    LONG_HEADER_BYTES,
    PREAMBLE_BYTES,
    PREFIX,
    SEQUENCE_END,
    SHORT_VRS,
    UNDEFINED,
    Syntax,
    may_be_vr,
)
from gateway.dicom.dataset.plain import Begin
from gateway.dicom.dataset.reader import Reader, ReadLimitError
from gateway.errors import DataSetError

MAX_DEPTH = 64
"""Limits the nesting of sequences and items; the deepest known data sets (SR content trees) have 30
levels."""

MAX_ELEMENTS = 250_000
"""Limits the time for one data set to half a second. A header has some hundred elements. With
references to ten thousand frames, it has some hundred thousand."""


@dataclass(frozen=True, slots=True)
class Element:
    """One element with a value, which has `length` bytes from `start`.

    `root` is the tag of the top-level element that contains it; for a top-level element, its own. `depth` is
    the number of sequences and items around it: 0 for a top-level element. `vr` is empty with implicit VR.
    """

    tag: int
    root: int
    depth: int
    start: int
    length: int
    vr: bytes = b""


@dataclass(slots=True)
class _Frame:
    """A sequence or item that was entered; `end` is None if its length is undefined."""

    kind: str  # sequence | item | fragments
    end: int | None
    syntax: Syntax


def enter_none(_: int) -> bool:
    """Enter no sequence."""
    return False


class Walk:
    """Iterates over the elements in the order of their bytes.

    `enter` decides by the top-level tag whether a sequence is entered. Other sequences are skipped by their
    length, or read to their end if they have no length. The iteration ends before the first top-level tag
    that is `until` or greater.

    If a broken top-level sequence has a length, the iteration continues after it, and `defect` describes the
    error.

    With `begin` it continues after what `plain` has read.
    """

    def __init__(
        self,
        reader: Reader,
        syntax: Syntax,
        enter: Callable[[int], bool],
        *,
        until: int,
        begin: Begin | None = None,
    ) -> None:
        self._reader = reader
        self._enter = enter
        self._until = until
        self._frames: list[_Frame] = []
        self._position = 0
        self._root = 0
        self._tag: int | None = None
        self._tag_position = 0
        self.defect = ""
        if begin is not None:
            self._position, self._syntax = begin
            return
        try:
            self._position = self._after_file_meta()
            self._syntax = syntax_as_written(reader, self._position, syntax)
        except DataSetError as error:
            raise self._located(error) from error

    @property
    def big_endian(self) -> bool:
        """Whether the numbers of top-level elements are big endian."""
        return self._syntax.big_endian

    def end_before(self, tag: int) -> None:
        """End the iteration before the first top-level tag that is `tag` or greater."""
        self._until = tag

    def __iter__(self) -> Iterator[Element]:
        """Yield each top-level element that is not entered, and each one inside a sequence that is.

        Raises:
            DataSetError: an element is cut off, nested too deep, or has an impossible length.
            ReadLimitError: a limit was reached before the end.
        """
        for _ in range(MAX_ELEMENTS):
            try:
                self._leave_ended()
                if not self._frames and not self._reader.reaches(self._position + 1):
                    return
                syntax = self._frames[-1].syntax if self._frames else self._syntax
                tag, vr, length, start = self._header(syntax)
                if not self._frames and self._until <= tag < GROUP_OF_DELIMITERS:
                    return
                element = self._next(tag, vr, length, start)
            except DataSetError as error:
                if not self._leave_broken_sequence(error):
                    raise self._located(error) from error
                continue
            if element is not None:
                yield element
        raise ReadLimitError(f"more than {MAX_ELEMENTS} elements")

    # ---- inside --------------------------------------------------------------------------------------

    def _located(self, error: DataSetError) -> DataSetError:
        """Return the error with tag and position of its element, short enough for an Error Comment."""
        tag = "" if self._tag is None else f"({self._tag >> 16:04X},{self._tag & 0xFFFF:04X}) "
        return type(error)(f"{tag}at byte {self._tag_position}: {error}")

    def _leave_broken_sequence(self, error: DataSetError) -> bool:
        """Continue after the broken top-level sequence; return False if it has no length."""
        if isinstance(error, ReadLimitError) or not self._frames or self._frames[0].end is None:
            return False
        self.defect = self.defect or str(self._located(error))
        self._position = self._frames[0].end
        self._frames.clear()
        return True

    def _leave_ended(self) -> None:
        frames = self._frames
        while frames:
            end = frames[-1].end
            if end is None or self._position < end:
                return
            if self._position > end:
                raise DataSetError("reaches beyond what holds it")
            frames.pop()

    def _next(self, tag: int, vr: bytes, length: int, start: int) -> Element | None:
        """Skip or enter the element whose header was read; return it if it was skipped and has a value."""
        frame = self._frames[-1] if self._frames else None
        syntax = frame.syntax if frame is not None else self._syntax
        if tag in DELIMITERS:
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
        if (
            is_sequence
            and length
            and self._enter(self._root)
            and holds_items(self._reader, start, length, syntax)
        ):
            self._push(_Frame("sequence", start + length, syntax))
            self._position = start
            return None
        self._position = start + length
        return Element(tag, self._root, depth, start, length, vr)

    def _header(self, syntax: Syntax) -> tuple[int, bytes, int, int]:
        """Return tag, VR (empty if implicit), length, and the position of the value."""
        self._tag, self._tag_position = None, self._position
        found = self._reader.at(self._position, HEADER_BYTES)
        if found is None:
            inside = f" inside ({self._root >> 16:04X},{self._root & 0xFFFF:04X})" if self._frames else ""
            raise DataSetError(f"cut off in an element header{inside}")
        buffer, at = found
        order = ">" if syntax.big_endian else "<"
        group, number = struct.unpack_from(order + "HH", buffer, at)
        self._tag = tag = group << 16 | number
        vr = bytes(buffer[at + 4 : at + 6])
        if not syntax.explicit or tag in DELIMITERS:
            return tag, b"", struct.unpack_from(order + "I", buffer, at + 4)[0], self._position + HEADER_BYTES
        if not may_be_vr(vr):
            start = self._position + HEADER_BYTES
            end = self._frames[-1].end if self._frames else None
            written = bytes(buffer[at + 4 : at + 8])
            length = length_without_vr(
                self._reader, written, start, order, end=end, is_inside=bool(self._frames)
            )
            return tag, b"", length, start
        if vr in SHORT_VRS:
            return tag, vr, struct.unpack_from(order + "H", buffer, at + 6)[0], self._position + HEADER_BYTES
        # An unknown VR has the long form: every VR that is added to the standard has it (PS3.5 §7.1.2).
        found = self._reader.at(self._position, LONG_HEADER_BYTES)
        if found is None:
            raise DataSetError("cut off in an element header")
        buffer, at = found
        return tag, vr, struct.unpack_from(order + "I", buffer, at + 8)[0], self._position + LONG_HEADER_BYTES

    def _delimiter(self, frame: _Frame | None, tag: int, length: int, start: int) -> None:
        """Enter an item, or leave an item or sequence (PS3.5 §7.5.2, Tables 7.5-1 to 7.5-3)."""
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
                self._position = frame.end  # both a delimiter and a length: the length counts
        else:
            raise DataSetError("delimiter out of place")

    def _enter_undefined(self, vr: bytes, syntax: Syntax, start: int) -> None:
        if vr == b"UN":
            syntax = IMPLICIT_LITTLE  # in every transfer syntax: PS3.5 §6.2.2, note 7
        is_sequence = vr in {b"", b"SQ", b"UN"}
        self._push(_Frame("sequence" if is_sequence else "fragments", None, syntax))
        self._position = start

    def _push(self, frame: _Frame) -> None:
        if len(self._frames) >= MAX_DEPTH:
            raise DataSetError(f"more than {MAX_DEPTH} sequences deep")
        self._frames.append(frame)

    def _check(self, start: int, length: int) -> None:
        if not self._reader.reaches(start + length):
            raise DataSetError("cut off in a value")

    def _after_file_meta(self) -> int:
        """Return the position after preamble and group 0002, which some programs send with a data set."""
        found = self._reader.at(0, PREAMBLE_BYTES + len(PREFIX))
        if found is not None:
            buffer, at = found
            prefix = bytes(buffer[at + PREAMBLE_BYTES : at + PREAMBLE_BYTES + len(PREFIX)])
            self._position = PREAMBLE_BYTES + len(PREFIX) if prefix == PREFIX else 0
        while True:
            found = self._reader.at(self._position, HEADER_BYTES)
            if found is None:
                return self._position
            buffer, at = found
            if int.from_bytes(buffer[at : at + 2], "little") != FILE_META_GROUP:
                return self._position
            _, _, length, start = self._header(EXPLICIT_LITTLE)
            if length == UNDEFINED:
                raise DataSetError("group 0002 without a length")
            self._check(start, length)
            self._position = start + length
