"""The digest of the data set in a Part 10 file, that is of the bytes on the wire."""

import os
from hashlib import sha256

from gateway.dicom.dataset.part10 import read_file_meta

_HEAD_BYTES = 4096
"""More than any File Meta Information of the lab."""
_PIECE_BYTES = 1 << 20


def data_set_digest(descriptor: int) -> str:
    """Return the SHA-256 in hex; do not move the position of the open file, which another reader shares."""
    offset = read_file_meta(os.pread(descriptor, _HEAD_BYTES, 0)).data_set_offset
    digest = sha256()
    while piece := os.pread(descriptor, _PIECE_BYTES, offset):
        digest.update(piece)
        offset += len(piece)
    return digest.hexdigest()
