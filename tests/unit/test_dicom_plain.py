"""The fast reading of plain elements finds what the iteration finds, also in broken data."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.dicom_peers import EXPLICIT, IMPLICIT
from support.headers import BIG, UNDEFINED, encode, explicit, instance, item, result, sequence

from gateway.dicom.dataset.encoding import EXPLICIT_LITTLE, IMPLICIT_LITTLE, Syntax
from gateway.dicom.dataset.header import read_header
from gateway.dicom.dataset.plain import Begin, read_plain
from gateway.errors import DataSetError
from gateway.rules.dictionary import attribute

UIDS = {0x0008_0016: "1.5", 0x0008_0018: "1.4", 0x0020_000D: "1.6", 0x0020_000E: "1.7"}
NESTED = sequence(
    (8, 0x1140), item(explicit((8, 0x1155), b"UI", b"1.8\0"), UNDEFINED) + b"\xfe\xff\r\xe0" + bytes(4)
)
WITHOUT_LENGTH = sequence((8, 0x1140), NESTED[12:] + b"\xfe\xff\xdd\xe0" + bytes(4), UNDEFINED)
LONG = struct.pack("<HH2sHI", 8, 0x1030, b"UT", 0, 600) + b"x" * 600
PART_10 = bytes(128) + b"DICM" + explicit((2, 0x10), b"UI", b"1.2.840.10008.1.2.1\0")
DATA_SETS = [
    instance(),
    instance(early=NESTED, mid=LONG),
    instance(mid=WITHOUT_LENGTH),
    instance(early=explicit((8, 5), b"CS", b"ISO_IR 100"), mid=explicit((0x10, 0x10), b"QQ", b"A^B ")),
    instance(early=explicit((0x20, 0xE), b"UI", b"1.7\0")),
    PART_10 + instance(),
    encode(result(), EXPLICIT),
    encode(result(undefined=True), EXPLICIT),
    encode(result(), IMPLICIT),
    encode(result(undefined=True), IMPLICIT),
    encode(result(), BIG),
]


def _found(data_set: bytes, transfer_syntax_uid: str, *, by_iteration: bool) -> tuple[str, ...]:
    """Return the values of the header, or the error. An attribute for the rules asks for the iteration."""
    modality = attribute("Modality")
    asked = {modality.tag: modality} if by_iteration else {}
    try:
        header = read_header(-1, 0, transfer_syntax_uid, with_references=False, asked=asked, held=data_set)
    except DataSetError as error:
        return (str(error),)
    return (
        header.sop_class_uid,
        header.sop_instance_uid,
        header.study_instance_uid,
        header.series_instance_uid,
        header.modality,
        header.series_description,
    )


@given(
    st.sampled_from(DATA_SETS),
    st.sampled_from((EXPLICIT, IMPLICIT, BIG)),
    st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=4)), max_size=3),
    st.integers(0, 2000),
)
@example(instance(), EXPLICIT, [], 2000)
@example(instance(), IMPLICIT, [], 2000)
def test_both_ways_find_the_same(
    data_set: bytes, transfer_syntax_uid: str, edits: list[tuple[int, bytes]], length: int
) -> None:
    """The same values, or the same error."""
    changed = bytearray(data_set[:length])
    for position, raw in edits:
        changed[position : position + len(raw)] = raw
    raw = bytes(changed)
    assert _found(raw, transfer_syntax_uid, by_iteration=False) == _found(
        raw, transfer_syntax_uid, by_iteration=True
    )


def _read(data_set: bytes, syntax: Syntax = EXPLICIT_LITTLE) -> tuple[Begin | None, dict[int, str]]:
    values: dict[int, str] = {}
    begin = read_plain(data_set, syntax, values, wanted=UIDS, until=0x0020_000E, max_value_bytes=256)
    return begin, values


@pytest.mark.parametrize("early", [b"", NESTED, LONG])
def test_a_plain_header_is_read_to_its_end(early: bytes) -> None:
    """Sequences with a length are plain."""
    data_set = instance(early=early)
    assert _read(data_set + b"more") == (Begin(len(data_set), EXPLICIT_LITTLE), UIDS)


def test_the_reading_ends_where_an_element_is_not_plain() -> None:
    """The iteration continues there."""
    begin, values = _read(instance(mid=WITHOUT_LENGTH))
    assert begin == Begin(24, EXPLICIT_LITTLE)
    assert list(values) == [0x0008_0016, 0x0008_0018]


@pytest.mark.parametrize("data_set", [b"", PART_10 + instance(), explicit((8, 0x16), b"??", b"1.5\0")])
def test_what_does_not_begin_with_a_plain_element_is_not_read(data_set: bytes) -> None:
    """File Meta Information, an invalid VR, or nothing."""
    assert _read(data_set) == (None, {})


def test_the_written_syntax_counts() -> None:
    """Explicit VR although implicit was negotiated."""
    assert _read(instance(), IMPLICIT_LITTLE)[0] == Begin(48, EXPLICIT_LITTLE)
