"""Look up attributes by keyword or tag, and UIDs by name, in the data dictionary (PS3.6).

pydicom has the dictionary as a Python module. It is imported only where a rule is parsed.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from functools import cache

from gateway.domain.identifiers import is_uid
from gateway.rules.errors import RuleError

PIXEL_DATA_GROUP = 0x7FE0
_GROUP_2 = 0x0002
_PRIVATE_TAG = re.compile(r"\(?\s*[0-9A-Fa-f]{3}[13579BDFbdf]\s*,?\s*[0-9A-Fa-fxX]{4}\s*\)?")
"""Also with `xx` for the block that a private creator reserves (PS3.5 §7.8.1)."""
_SINGLE_TAG = re.compile(r"\(?\s*([0-9A-Fa-f]{4})\s*,?\s*([0-9A-Fa-f]{4})\s*\)?")

# PS3.5 §6.2, Table 6.2-1
_NUMBERS = frozenset(("DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"))
_TEXTS = frozenset(("AE", "CS", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"))
_WHOLE = frozenset(("LT", "ST", "UR", "UT"))


class ComparedAs(StrEnum):
    """How the values of an attribute are compared, by its VR."""

    TEXT = "text"
    NUMBER = "number"
    DATE = "date"
    AGE = "age"


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of the standard that a rule may ask for."""

    tag: int
    keyword: str
    vr: str
    compared_as: ComparedAs

    def __str__(self) -> str:
        return f"{self.keyword} ({self.tag >> 16:04X},{self.tag & 0xFFFF:04X})"

    @property
    def is_whole(self) -> bool:
        """Tell whether a backslash belongs to the value: PS3.5 §6.4."""
        return self.vr in _WHOLE


@cache
def attribute(name: str) -> Attribute:
    """Return the attribute with that keyword or tag.

    Raises:
        RuleError: there is none, or a rule cannot ask for it.
    """
    from pydicom.datadict import dictionary_keyword, dictionary_VR  # noqa: PLC0415  a large table

    if _PRIVATE_TAG.fullmatch(name):
        raise RuleError(
            f"{name} is private: its meaning depends on who wrote it, so rules do not ask for it. Ask for a "
            "standard attribute, for example Manufacturer together with SeriesDescription"
        )
    tag = _tag_of(name)
    shown = f"{name} ({tag >> 16:04X},{tag & 0xFFFF:04X})"
    _refuse_by_tag(tag, shown)
    try:
        keyword, vr = dictionary_keyword(tag), dictionary_VR(tag)
    except KeyError:
        raise RuleError(f"{name}: the standard has no such attribute; see the tag in PS3.6") from None
    if not keyword:
        raise RuleError(f"{name}: the standard retired this tag and gave it no keyword; ask another one")
    if vr == "SQ":
        raise RuleError(
            f"{shown} is a sequence: rules ask for attributes outside of sequences only. Often the value is "
            "also outside, for example StudyDescription"
        )
    if vr in _NUMBERS:
        compared_as = ComparedAs.NUMBER
    elif vr == "DA":
        compared_as = ComparedAs.DATE
    elif vr == "AS":
        compared_as = ComparedAs.AGE
    elif vr in _TEXTS:
        compared_as = ComparedAs.TEXT
    else:
        raise RuleError(
            f"{shown} has the VR {vr}: rules compare text and numbers only; ask another attribute"
        )
    return Attribute(tag, keyword, vr, compared_as)


def _tag_of(name: str) -> int:
    from pydicom.datadict import tag_for_keyword  # noqa: PLC0415

    if found := _SINGLE_TAG.fullmatch(name):
        return int(found[1] + found[2], 16)
    if "." in name or "[" in name or ">" in name:
        raise RuleError(
            f"{name}: rules ask for attributes outside of sequences only: give one keyword, for example "
            "Modality"
        )
    tag = tag_for_keyword(name)
    if tag is None:
        raise RuleError(f"{name}: no attribute has this keyword{_meant(name)}")
    return tag


def _refuse_by_tag(tag: int, shown: str) -> None:
    group = tag >> 16
    if group <= _GROUP_2:
        raise RuleError(
            f"{shown} is not part of the data set: use transfer_syntax, sop_class, calling_ae or called_ae"
        )
    if group >= PIXEL_DATA_GROUP:
        raise RuleError(
            f"{shown} is Pixel Data or stands behind it: rules are decided from the header, before Success. "
            "Ask for an attribute before (7FE0,0000)"
        )
    if not tag & 0xFFFF:
        raise RuleError(f"{shown} is a group length, which few programs write: ask for another attribute")


@cache
def _keywords() -> dict[str, str]:
    from pydicom._dicom_dict import DicomDictionary  # noqa: PLC0415  pydicom has no other list

    return {entry[4].lower(): entry[4] for entry in DicomDictionary.values() if entry[4]}


def _meant(name: str) -> str:
    plain = re.sub(r"[\s_-]", "", name).lower()
    found = get_close_matches(plain, _keywords(), n=1, cutoff=0.6)
    return f"; did you mean {_keywords()[found[0]]}?" if found else "; keywords are listed in PS3.6"


class UidKind(StrEnum):
    """Which UIDs a condition takes; the text is the registered type of the UID in PS3.6 §A."""

    SOP_CLASS = "SOP Class"
    TRANSFER_SYNTAX = "Transfer Syntax"


@cache
def uid(text: str, kind: UidKind) -> str:
    """Return the UID that is given as such, as a keyword (CTImageStorage) or as a name (CT Image Storage).

    Raises:
        RuleError: there is none of that kind.
    """
    from pydicom._uid_dict import UID_dictionary  # noqa: PLC0415  pydicom has no other list

    if is_uid(text):
        known = UID_dictionary.get(text)
        if known is not None and known[1] != kind:
            raise RuleError(f"{text} is not the UID of a {kind}, but of {known[0]}, a {known[1]}")
        return text
    names = {
        plain: uid
        for uid, (name, type_, _, _, keyword) in UID_dictionary.items()
        if type_ == kind
        for plain in (name.lower(), keyword.lower())
    }
    found = names.get(text.lower())
    if found is not None:
        return found
    near = get_close_matches(text.lower(), names, n=1, cutoff=0.6)
    meant = f"; did you mean {UID_dictionary[names[near[0]]][4]}?" if near else ""
    raise RuleError(f"{text} is neither a UID nor the name of a {kind}{meant}")


@cache
def name_of_uid(text: str) -> str:
    """Return the keyword of a UID; the UID itself if the standard has none."""
    from pydicom._uid_dict import UID_dictionary  # noqa: PLC0415

    known = UID_dictionary.get(text)
    return known[4] if known is not None and known[4] else text
