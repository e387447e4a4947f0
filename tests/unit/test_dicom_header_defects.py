"""The header reader and malformed elements: what is skipped, read anyway, or refused by name."""

import struct

import pytest
from support.headers import (
    NO_REFERENCES,
    NOTE,
    REFERENCE,
    UNDEFINED,
    explicit,
    instance,
    item,
    read,
    sequence,
)

from gateway.errors import DataSetError


@pytest.mark.parametrize("value", [b"", b"NOTE", b"SYNTHETIC NOTE", bytes(20), b"UIUI" * 9])
@pytest.mark.parametrize("vr", [b"??", b"--", b"  ", b"\0\0", b"ob", b"Lo", b"1A", b"\xff\xfe"])
@pytest.mark.parametrize("where", ["early", "mid", "twice"])
def test_an_invalid_vr_has_a_length_of_two_bytes(where: str, vr: bytes, value: bytes) -> None:
    """As in DCMTK and Orthanc, also as the first element, and several in a row."""
    if where == "early":
        raw = instance(early=explicit((8, 5), vr, value))
    else:
        raw = instance(mid=explicit(NOTE, vr, value) * (1 if where == "mid" else 2))
    assert read(raw).series_instance_uid == "1.7"


def test_an_undefined_vr_may_come_first() -> None:
    """It has a length of four bytes: PS3.5 §7.1.2."""
    future = struct.pack("<HH2sHI", 8, 5, b"XX", 0, 6) + b"A NOTE"
    assert read(instance(early=future)).series_instance_uid == "1.7"


@pytest.mark.parametrize("value", [b"", b"NOTE", bytes(300), bytes(0x2D2D), bytes(0x3F3F + 0x10000)])
def test_an_implicit_element_among_explicit_ones_is_read(value: bytes) -> None:
    """Its length is where others have their VR."""
    raw = instance(mid=struct.pack("<HHI", *NOTE, len(value)) + value)
    assert read(raw).series_instance_uid == "1.7"


@pytest.mark.parametrize("number", [0x0000, 0x0002, 0xE001, 0xFFFF])
@pytest.mark.parametrize("where", ["early", "mid"])
def test_group_fffe_without_the_delimiters_is_a_group_like_others(where: str, number: int) -> None:
    """As in DCMTK and Orthanc, also as the first element; what a result references is still found."""
    element = explicit((0xFFFE, number), b"LO", b"NOTE")
    raw = instance(**{where: element}, late=sequence((8, 0x1140), item(REFERENCE)))
    header = read(raw, with_references=True)
    assert header.series_instance_uid == "1.7"
    assert header.referenced_sop_instance_uids


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (
            instance(mid=struct.pack("<HH2sH", *NOTE, b"LO", 9000)),
            "(0010,21B0) at byte 24: cut off in a value",
        ),
        (instance()[:26], "at byte 24: cut off in an element header"),
        (
            instance(mid=sequence((8, 0x1140), item(REFERENCE, UNDEFINED), UNDEFINED)),
            "at byte 82: cut off in an element header inside (0008,1140)",
        ),
        (
            instance(mid=b"\xfe\xff\x0d\xe0\0\0\0\0"),
            "(FFFE,E00D) at byte 24: delimiter outside of a sequence",
        ),
    ],
)
def test_an_unparsable_element_is_named(raw: bytes, sentence: str) -> None:
    """Tag and offset, within the length of an Error Comment."""
    with pytest.raises(DataSetError) as caught:
        read(raw)
    assert str(caught.value) == sentence
    assert len(sentence) < 64


@pytest.mark.parametrize(
    "broken",
    [
        sequence((8, 0x2112), item(explicit((8, 0x1150), b"UI", b"1.2\0")[:-2] + b"\xff" * 30)),
        sequence((8, 0x2112), item(REFERENCE, 9000)),
        sequence((8, 0x2112), item(REFERENCE, UNDEFINED)),
        sequence((8, 0x2112), item(REFERENCE) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) + b"\xff" * 11),
        sequence((8, 0x2112), item(sequence((8, 0x1140), item(REFERENCE), 5000))),
    ],
)
def test_a_broken_sequence_of_references_loses_only_its_own(broken: bytes) -> None:
    """It is skipped by its length; the references behind it are found."""
    raw = instance(early=broken, late=sequence((0x40, 0xA375), item(explicit((8, 0x1155), b"UI", b"1.9\0"))))
    header = read(raw, with_references=True)
    assert header._replace(**NO_REFERENCES) == read(raw)
    assert header.referenced_sop_instance_uids[-1] == "1.9"


def test_references_behind_a_defect_are_left_out_and_reported() -> None:
    """The reader cannot go on behind it."""
    good = sequence((8, 0x1140), item(REFERENCE))
    raw = instance(early=good, late=explicit((0x21, 0x10), b"LO", b"SYNTH ") + b"\x21\0\x01\x10LO\xff\xff")
    header = read(raw, with_references=True)
    assert header.referenced_sop_instance_uids == ("1.8.1",)
    assert header.defect == "(0021,1001) at byte 96: cut off in a value"


@pytest.mark.parametrize("uid", [b"1.2/3\0", b"\xcc\xcc", b"1.2 .3", b"../..", b"", b"ABC\0"])
def test_a_reference_with_an_invalid_uid_is_left_out(uid: bytes) -> None:
    """Bytes behind a NUL are not read, by us or by DCMTK."""
    wrong, cut = explicit((8, 0x1155), b"UI", uid), explicit((8, 0x1155), b"UI", b"1.2.3\0\xcc\xcc")
    raw = instance(early=sequence((8, 0x2112), item(wrong) + item(cut)))
    assert read(raw, with_references=True).referenced_sop_instance_uids == ("1.2.3",)
