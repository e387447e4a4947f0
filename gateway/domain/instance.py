"""What a stored instance is: its kind, the folder of its file, and the file's name."""

from enum import StrEnum

DIGEST_PREFIX_LENGTH = 12
"""Hex digits of the SHA-256 in a file name, used if the plain name is taken."""


class Kind(StrEnum):
    """Whether a sender sent the instance, or a worker derived it."""

    ORIGINAL = "original"
    RESULT = "result"


class Place(StrEnum):
    """The folder under `edge.data_root` that holds the file; it shows the state of the deliveries."""

    INCOMING = "incoming"
    QUEUED = "queued"
    SENT = "sent"
    FAILED = "failed"


def file_names(sop_instance_uid: str, sha256_hex: str) -> tuple[str, str]:
    """Return the plain name of an instance's file, and the name to use if that one is taken.

    The plain name is taken after a conflict (the same SOP Instance UID with other bytes), and while another
    reception of the same instance is being stored.
    """
    return f"{sop_instance_uid}.dcm", f"{sop_instance_uid}.{sha256_hex[:DIGEST_PREFIX_LENGTH]}.dcm"


def instances_in_words(count: int) -> str:
    """Return a number of instances, for people."""
    return "1 instance" if count == 1 else f"{count:,} instances"
