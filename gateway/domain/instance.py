"""What one kept reception is: its kind, the place of its file, and the file's name."""

from enum import StrEnum

DIGEST_PREFIX_LENGTH = 12
"""Hex digits of the digest in the name of a file whose plain name is taken."""


class Kind(StrEnum):
    """Where an instance comes from: a modality, or a worker that derived it."""

    ORIGINAL = "original"
    RESULT = "result"


class Place(StrEnum):
    """The folder under `edge.data_root` that holds the file; tells an SRE the same as the database."""

    INCOMING = "incoming"
    QUEUED = "queued"
    SENT = "sent"
    FAILED = "failed"


def file_names(sop_instance_uid: str, sha256_hex: str) -> tuple[str, str]:
    """The name an instance's file should get, and the one for where that is taken by other bytes.

    The second is the answer to a conflict (the same SOP Instance UID with other bytes) and to a
    repeat that is received while the first is being stored.
    """
    return f"{sop_instance_uid}.dcm", f"{sop_instance_uid}.{sha256_hex[:DIGEST_PREFIX_LENGTH]}.dcm"
