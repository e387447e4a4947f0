"""How elements are encoded: syntaxes, delimiters and VRs (PS3.5 §7.1, §7.5 and §A)."""

from dataclasses import dataclass

UNDEFINED = 0xFFFFFFFF
ITEM = 0xFFFEE000
ITEM_END = 0xFFFEE00D
SEQUENCE_END = 0xFFFEE0DD
DELIMITERS = frozenset((ITEM, ITEM_END, SEQUENCE_END))
"""They have no VR. Another element of group FFFE is an ordinary one, as in DCMTK."""
GROUP_OF_DELIMITERS = 0xFFFE0000

FILE_META_GROUP = 0x0002
PREAMBLE_BYTES = 128
PREFIX = b"DICM"  # after the preamble of a Part 10 file
HEADER_BYTES = 8
LONG_HEADER_BYTES = 12

# PS3.5 §7.1.2, Tables 7.1-1 and 7.1-2: VRs whose length has two bytes, and four
_TEXT_VRS = (b"AE", b"AS", b"CS", b"DA", b"DS", b"DT", b"IS", b"LO", b"LT", b"PN", b"SH", b"ST", b"TM", b"UI")
_NUMBER_VRS = (b"AT", b"FD", b"FL", b"SL", b"SS", b"UL", b"US")
SHORT_VRS = frozenset((*_TEXT_VRS, *_NUMBER_VRS))
LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
VRS = SHORT_VRS | LONG_VRS
NOT_VRS = frozenset((b"??", b"--", b"  "))
"""Written by some programs in place of an unknown VR."""


_IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_DEFLATED = frozenset(
    {
        "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian: PS3.5 §A.5
        "1.2.840.10008.1.2.4.95",  # JPIP Referenced Deflate: PS3.5 §A.7
        "1.2.840.10008.1.2.4.205",  # JPIP HTJ2K Referenced Deflate: PS3.5 §A.13
    }
)


@dataclass(frozen=True, slots=True)
class Syntax:
    """The part of a transfer syntax that determines how elements are encoded: PS3.5 §A."""

    explicit: bool
    big_endian: bool = False


IMPLICIT_LITTLE = Syntax(explicit=False)
EXPLICIT_LITTLE = Syntax(explicit=True)
EXPLICIT_BIG = Syntax(explicit=True, big_endian=True)


def may_be_vr(vr: bytes) -> bool:
    """Tell whether `vr` is two capital letters, as every VR of the standard is."""
    return vr.isalpha() and vr.isupper()


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
