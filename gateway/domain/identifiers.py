"""Which UIDs and AE titles may come near a path, a log line or a row.

Everything from the wire passes here first (G7): what is returned holds only digits and dots, or
printable ASCII, and is bounded in length.
"""

import re

MAX_UID_LENGTH = 64  # PS3.5 §9.1
MAX_DATA_SET_UID_LENGTH = 128
"""Of Study and Series Instance UIDs, which some writers make too long. PACSs take them, and it is short
enough for the name of a folder. The longer UID of an instance is refused: DCMTK and Orthanc abort at a
command set that has one."""
MAX_AE_TITLE_LENGTH = 16  # PS3.5 §6.2, VR AE

_UID = re.compile(r"[0-9][0-9.]*")
_AE_TITLE = re.compile(r"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]*[\x21-\x5b\x5d-\x7e])?")


def is_uid(text: str, limit: int = MAX_UID_LENGTH) -> bool:
    """Tell whether `text` is a UID that is safe as a file name: digits and dots, the first a digit.

    Leading zeros, empty components and a dot at the end are let through: they are wrong by PS3.5 §9.1, found
    in the field, taken by DCMTK and Orthanc, and harmless to us.
    """
    return len(text) <= limit and _UID.fullmatch(text) is not None


def is_ae_title(text: str) -> bool:
    """Tell whether `text` is an AE title without padding: 1 to 16 of printable ASCII, no backslash."""
    return len(text) <= MAX_AE_TITLE_LENGTH and _AE_TITLE.fullmatch(text) is not None


def printable(text: str, limit: int = 64) -> str:
    """Text of a stranger, made harmless for a log line or a terminal: ASCII, one line, bounded."""
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text  # as nearly all are; each log line asks three times
    cut = text if len(text) <= limit else text[:limit] + "…"
    return "".join(c if " " <= c <= "~" or c == "…" else "?" for c in cut)
