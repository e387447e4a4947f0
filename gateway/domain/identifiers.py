"""Check UIDs and AE titles before they are used in a path, a log line or a row.

Every such value from the network is checked here first (G7). A value that passes has only digits and dots, or
only printable ASCII, and a limited length.
"""

import re

MAX_UID_LENGTH = 64  # PS3.5 §9.1
MAX_DATA_SET_UID_LENGTH = 128
"""The limit for Study and Series Instance UIDs; a folder name may have this length. Some modalities write
more than 64 characters, and PACSs accept that. A longer SOP Instance UID is refused, because it is in the
command set as well: there, DCMTK and Orthanc abort the association at more than 64 characters."""
MAX_AE_TITLE_LENGTH = 16  # PS3.5 §6.2, VR AE

_UID = re.compile(r"[0-9][0-9.]*")
_AE_TITLE = re.compile(r"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]*[\x21-\x5b\x5d-\x7e])?")


def is_uid(text: str, limit: int = MAX_UID_LENGTH) -> bool:
    """Tell whether `text` is a UID that is safe as a file name: digits and dots, the first a digit.

    Leading zeros, empty components and a dot at the end are accepted. PS3.5 §9.1 forbids them, but they occur
    in practice, DCMTK and Orthanc accept them, and they are harmless in a path.
    """
    return len(text) <= limit and _UID.fullmatch(text) is not None


def is_ae_title(text: str) -> bool:
    """Tell whether `text` is an unpadded AE title: 1 to 16 printable ASCII characters, no backslash."""
    return len(text) <= MAX_AE_TITLE_LENGTH and _AE_TITLE.fullmatch(text) is not None


def printable(text: str, limit: int = 64) -> str:
    """Return `text` made safe for a log line or a terminal: one line of printable ASCII, cut at `limit`."""
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text  # the common case, kept fast: each log line calls this three times
    cut = text if len(text) <= limit else text[:limit] + "…"
    return "".join(c if " " <= c <= "~" or c == "…" else "?" for c in cut)
