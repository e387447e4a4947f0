"""Read the values of elements: the text of a UID as it is; for rules, decoded text or numbers.

Rules ask for few attributes, so they are decoded when the header is read. What cannot be decoded becomes an
`Undecodable` in place of the value; a reception never fails because of it.
"""

import math
import re
import struct
from collections.abc import Iterator
from functools import cache

from gateway.dicom.dataset.elements import Element
from gateway.dicom.dataset.encoding import VRS
from gateway.dicom.dataset.reader import Reader
from gateway.dicom.negotiation import text_of
from gateway.errors import DataSetError
from gateway.rules.dictionary import Attribute, ComparedAs
from gateway.rules.facts import Undecodable, Value

SPECIFIC_CHARACTER_SET = 0x0008_0005

MAX_TEXT_BYTES = 256
"""A UID has 64 bytes, Series Description 64 characters of up to 4 bytes."""

MAX_BYTES = 4096
"""A longer value is not read. Values of VR LO have at most 64 characters, those of LT 10,240."""

MAX_VALUES = 64
"""How many values of one attribute are compared, so that an evaluation stays short."""

# PS3.5 §6.1.2.2: VRs to which Specific Character Set applies
_WITH_CHARACTER_SET = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
_ESCAPE = b"\x1b"
_WITH_ESCAPES = frozenset(("iso2022_jp", "iso2022_jp_2"))
# PS3.5 §6.1.2.5.3: what returns to the first character set
_RESET_IN_TEXT = re.compile(rb"[\t\n\f\r\\]")
_RESET_IN_NAMES = re.compile(rb"[\^=\\]")

# PS3.5 §6.2, Table 6.2-1: binary numbers
_BINARY = {"FD": "d", "FL": "f", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}
_NO_TEXT = frozenset((*_BINARY, "AT", "OB", "OD", "OF", "OL", "OV", "OW", "SQ"))
_DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")  # VR DS and IS

TOO_LONG = Undecodable(f"has more than {MAX_BYTES} bytes")
_TOO_MANY = Undecodable(f"has more than {MAX_VALUES} values")
_NO_NUMBER = Undecodable("is no number")
_NOT_ASCII = Undecodable("has characters that its VR does not allow")
_WRONG_LENGTH = Undecodable("has a length that does not fit its VR")


def text_of_element(element: Element, reader: Reader) -> str:
    """Return the value without padding, at most its first 256 bytes, which no valid value exceeds."""
    count = min(element.length, MAX_TEXT_BYTES)
    found = reader.at(element.start, count)
    if found is None:
        raise DataSetError("cut off in a value")
    buffer, at = found
    return text_of(bytes(buffer[at : at + count]))


def values_of_element(
    element: Element, reader: Reader, attribute: Attribute, *, big_endian: bool, character_set: str
) -> tuple[Value, ...]:
    """Return the values of an element that are not empty, for a rule that asks for its attribute."""
    if element.length > MAX_BYTES:
        return (TOO_LONG,)
    found = reader.at(element.start, element.length)
    if found is None:
        raise DataSetError("cut off in a value")
    buffer, at = found
    return decode(
        bytes(buffer[at : at + element.length]),
        attribute,
        vr=element.vr,
        big_endian=big_endian,
        character_set=character_set,
    )


def decode(
    raw: bytes, attribute: Attribute, *, vr: bytes, big_endian: bool, character_set: str
) -> tuple[Value, ...]:
    """Return the values that are not empty.

    `vr` is the VR in the file, empty with implicit VR. `character_set` is the text of (0008,0005), or "".
    """
    if not raw:
        return ()
    written = vr.decode("ascii", "replace")
    if vr not in VRS or written == "UN":
        written = attribute.vr
    if written in _BINARY and attribute.compared_as is ComparedAs.NUMBER:
        return _limited(_numbers(raw, _BINARY[written], big_endian=big_endian))
    if written in _NO_TEXT or attribute.vr in _BINARY:
        return (Undecodable(f"has the VR {written} instead of {attribute.vr}"),)
    text = _text(raw, attribute, character_set)
    if isinstance(text, Undecodable):
        return (text,)
    parts = [text] if attribute.is_whole else text.split("\\")
    found = tuple(part for part in (part.strip(" ") for part in parts) if part)
    if attribute.compared_as is ComparedAs.NUMBER:
        return _limited(tuple(map(_decimal, found)))
    return _limited(found)


def _limited(values: tuple[Value, ...]) -> tuple[Value, ...]:
    return values if len(values) <= MAX_VALUES else (*values[:MAX_VALUES], _TOO_MANY)


def _numbers(raw: bytes, form: str, *, big_endian: bool) -> tuple[Value, ...]:
    order = ">" if big_endian else "<"
    count, rest = divmod(len(raw), struct.calcsize(order + form))
    if rest:
        return (_WRONG_LENGTH,)
    values = struct.unpack(f"{order}{count}{form}", raw)
    return tuple(value if math.isfinite(value) else _NO_NUMBER for value in values)


def _decimal(text: str) -> Value:
    if _DECIMAL.fullmatch(text) is None:
        return _NO_NUMBER
    value = float(text)
    return value if math.isfinite(value) else _NO_NUMBER


def _text(raw: bytes, attribute: Attribute, character_set: str) -> str | Undecodable:
    """Return the text up to its first NUL, as everywhere in the gateway."""
    if raw.isascii() and _ESCAPE not in raw:
        return raw.decode("ascii").partition("\0")[0]
    if attribute.vr not in _WITH_CHARACTER_SET:
        return _NOT_ASCII
    return _in_character_set(raw, attribute.vr, character_set)


def _in_character_set(raw: bytes, vr: str, character_set: str) -> str | Undecodable:
    """Decode text with characters beyond ASCII. The bytes are decoded before they are split: see GB18030."""
    encodings = _encodings(character_set)
    if encodings is None:
        return Undecodable("has an unknown Specific Character Set")
    try:
        text = "".join(_fragments(raw, vr, encodings))
    except (UnicodeError, LookupError):
        return Undecodable("has bytes that its Specific Character Set does not have")
    return text.partition("\0")[0]


def _fragments(raw: bytes, vr: str, encodings: tuple[str, ...]) -> Iterator[str]:
    """Decode each part that begins with an escape sequence (PS3.5 §6.1.2.5); pydicom's decoder guesses.

    Raises:
        UnicodeError, LookupError: bytes or an escape sequence are not those of the encodings.
    """
    from pydicom.charset import CODES_TO_ENCODINGS  # noqa: PLC0415  few texts need it

    first, *escaped = raw.split(_ESCAPE)
    yield first.decode(encodings[0])
    resets = _RESET_IN_NAMES if vr == "PN" else _RESET_IN_TEXT
    for part in escaped:
        length = 3 if part.startswith((b"$(", b"$)")) else 2
        encoding = CODES_TO_ENCODINGS[_ESCAPE + part[:length]]
        if encoding in _WITH_ESCAPES:  # Python's codec reads the escape sequence itself
            if encoding not in encodings:
                raise LookupError(encoding)
            yield (_ESCAPE + part).decode(encoding)
            continue
        # The escape sequence of ASCII is allowed in every text with code extensions.
        encoding = "ascii" if part.startswith(b"(B") else encoding
        if encoding not in (*encodings, "ascii"):
            raise LookupError(encoding)
        end = found.start() if (found := resets.search(part, length)) else len(part)
        yield part[length:end].decode(encoding)
        yield part[end:].decode(encodings[0])


@cache
def _encodings(character_set: str) -> tuple[str, ...] | None:
    """Return Python's names of the encodings; None if one is unknown. Without a value it is ASCII."""
    from pydicom.charset import python_encoding  # noqa: PLC0415

    names = [name.strip(" ") for name in character_set.split("\\")]
    found = [
        "ascii" if name in {"", "ISO_IR 6", "ISO 2022 IR 6"} else python_encoding.get(name) for name in names
    ]
    known = tuple(encoding for encoding in found if encoding is not None)
    return known if len(known) == len(found) else None
