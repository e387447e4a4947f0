"""The names of UIDs, as PS3.6 §A registers them, for people who read logs and messages."""

from functools import cache

from gateway.domain.identifiers import is_uid

TRANSFER_SYNTAX = "Transfer Syntax"
"""The kind of a UID that names a transfer syntax."""


def named(uid: str) -> str:
    """The UID with its name before it; by itself where the standard has none."""
    if not is_uid(uid):
        return "an invalid UID"
    name = _registered().get(uid, ("", ""))[0]
    return f"{name} ({uid})" if name else uid


def kind_of(uid: str) -> str:
    """What the standard says that the UID is: `SOP Class`, `Transfer Syntax` …; "" where it has none."""
    return _registered().get(uid, ("", ""))[1]


@cache
def _registered() -> dict[str, tuple[str, str]]:
    from pydicom._uid_dict import UID_dictionary  # noqa: PLC0415  a large table, wanted by few processes

    return {uid: (entry[0], entry[1]) for uid, entry in UID_dictionary.items()}
