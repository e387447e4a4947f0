"""Keyed hashes of accession numbers and patient IDs: HMAC-SHA-256 (RFC 2104), one domain for each.

A hash is personal data still: a person with the key can try every patient ID. Without the key it says
nothing. The domains keep a patient ID and an accession number of the same digits apart.
"""

import hmac
from enum import StrEnum

KEY_BYTES = 32


class SearchField(StrEnum):
    """What can be searched by its hash."""

    ACCESSION_NUMBER = "accession number"
    PATIENT_ID = "patient ID"


def normalized(value: str) -> str:
    """Return the value as it is compared: without blanks around it, in capital letters."""
    return value.strip().upper()


def hash_of(key: bytes, field: SearchField, value: str) -> bytes:
    """Return the hash of a value that is not empty."""
    return hmac.digest(key, f"mini-pacs/1/{field.value}\0{normalized(value)}".encode(), "sha256")
