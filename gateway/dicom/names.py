"""The names of UIDs as registered in PS3.6 §A, for logs and messages."""

from functools import cache

from gateway.domain.identifiers import is_uid

TRANSFER_SYNTAX = "Transfer Syntax"
"""What `kind_of` returns for the UID of a transfer syntax."""


def named(uid: str) -> str:
    """Return the name of the UID with the UID in parentheses; only the UID if the standard has no name."""
    if not is_uid(uid):
        return "an invalid UID"
    name = _registered().get(uid, ("", ""))[0]
    return f"{name} ({uid})" if name else uid


def kind_of(uid: str) -> str:
    """Return the registered kind of the UID, such as `SOP Class`; "" if it is not registered."""
    return _registered().get(uid, ("", ""))[1]


@cache
def _registered() -> dict[str, tuple[str, str]]:
    from pydicom._uid_dict import UID_dictionary  # noqa: PLC0415  a large table that few processes need

    return {uid: (entry[0], entry[1]) for uid, entry in UID_dictionary.items()}
