"""The header reader agrees with pydicom where pydicom can read, and only raises `DataSetError`."""

import os
import struct
import tempfile
import zlib

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from support.dicom_peers import EXPLICIT, IMPLICIT, bundled_files, read_quietly
from support.headers import (
    BIG,
    DEFLATED,
    EXPECTED,
    NEEDED,
    NO_REFERENCES,
    encode,
    read,
    result,
)

from gateway.dicom.dataset.elements import MAX_DEPTH
from gateway.dicom.dataset.header import read_header
from gateway.dicom.dataset.part10 import read_file_meta
from gateway.dicom.dataset.reader import MAX_EXAMINED_BYTES
from gateway.dicom.dataset.references import MAX_REFERENCES
from gateway.domain.identifiers import is_uid
from gateway.errors import DataSetError


def test_every_bundled_file_reads_as_pydicom_reads_it() -> None:
    """All files of pydicom that have the UIDs: many syntaxes, unusual and broken ones too."""
    count = 0
    for path in bundled_files():
        try:
            meta = read_file_meta(path.read_bytes()[:65_536])
        except DataSetError:
            continue
        expected = read_quietly(path)
        if not all(expected.get(keyword) for keyword in NEEDED):
            continue
        with path.open("rb") as file:
            header = read_header(
                file.fileno(), meta.data_set_offset, meta.transfer_syntax_uid, with_references=False
            )
        assert [getattr(expected, keyword) for keyword in NEEDED] == [
            header.sop_class_uid,
            header.sop_instance_uid,
            header.study_instance_uid,
            header.series_instance_uid,
        ], path.name
        assert header.modality == expected.get("Modality", ""), path.name
        assert header.series_description == expected.get("SeriesDescription", "").strip(), path.name
        count += 1
    assert count > 50


@pytest.mark.parametrize("undefined", [False, True], ids=["defined", "undefined"])
@pytest.mark.parametrize("transfer_syntax_uid", [IMPLICIT, EXPLICIT, BIG, DEFLATED, "1.2.840.10008.1.2.4.90"])
def test_references_are_found_in_every_encoding(transfer_syntax_uid: str, undefined: bool) -> None:  # noqa: FBT001  parametrised
    """At any depth of the sequences that name a source, once each, and nowhere else."""
    raw = encode(result(undefined=undefined), transfer_syntax_uid)
    header = read(raw, transfer_syntax_uid, with_references=True)
    assert set(header.referenced_sop_instance_uids) == set(EXPECTED.referenced_sop_instance_uids)
    assert len(header.referenced_sop_instance_uids) == 4
    assert header.referenced_series_instance_uids == ("1.9.1",)
    assert header.series_description == "AI_RESULT"
    without = read(raw, transfer_syntax_uid)
    assert without.sop_instance_uid == "1.2.3.4"
    assert not without.referenced_sop_instance_uids


def test_deflated_with_a_zlib_header_is_read() -> None:
    """Some writers add a zlib header."""
    assert read(zlib.compress(encode(result(), EXPLICIT)), DEFLATED).study_instance_uid == "1.2.3"


def test_the_bytes_take_precedence_over_the_negotiated_syntax() -> None:
    """Explicit bytes on an implicit context, the reverse, and group 0002 in front of the data set."""
    assert read(encode(result(), EXPLICIT), IMPLICIT).sop_instance_uid == "1.2.3.4"
    assert read(encode(result(), IMPLICIT), EXPLICIT).sop_instance_uid == "1.2.3.4"
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", 18) + b"1.2.840.10008.1.2\0"
    assert read(meta + encode(result(), IMPLICIT), IMPLICIT).sop_instance_uid == "1.2.3.4"
    for syntax in (EXPLICIT, IMPLICIT, BIG):
        raw = bytes(128) + b"DICM" + meta + encode(result(), syntax)
        assert read(raw, syntax).sop_instance_uid == "1.2.3.4"


def test_elements_out_of_order_are_found() -> None:
    """Series Instance UID first: the reader goes on until it has all UIDs."""
    element = struct.Struct("<HH2sH")
    pairs = [(0x20, 0x0E, b"1.2.3.5\0"), (0x20, 0x0D, b"1.2.3\0"), (8, 0x18, b"1.4\0"), (8, 0x16, b"1.5\0")]
    raw = b"".join(element.pack(group, number, b"UI", len(value)) + value for group, number, value in pairs)
    assert read(raw).sop_instance_uid == "1.4"


def test_uids_behind_the_pixels_are_found() -> None:
    """The worst order of elements; with references, too."""
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 100) + bytes(100)
    assert read(pixels + encode(result(), EXPLICIT)).sop_instance_uid == "1.2.3.4"
    assert read(pixels + encode(result(), EXPLICIT), with_references=True).sop_instance_uid == "1.2.3.4"


@pytest.mark.parametrize("keyword", NEEDED)
def test_a_missing_uid_is_an_error(keyword: str) -> None:
    """Each of the four is required; the message says which."""
    data_set = result()
    tag = data_set[keyword].tag
    del data_set[keyword]
    with pytest.raises(DataSetError, match=f"{tag.group:04X},{tag.element:04X}"):
        read(encode(data_set, EXPLICIT))


def test_un_of_undefined_length_is_implicit_inside() -> None:
    """PS3.5 §6.2.2: a sequence whose VR an earlier system did not know."""
    inner = struct.pack("<HHI", 8, 0x1155, 4) + b"1.6\0"
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
    unknown = struct.pack("<HH2sHI", 8, 0x2112, b"UN", 0, 0xFFFFFFFF) + item
    raw = unknown + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    data_set = result()
    del data_set.SourceImageSequence
    header = read(raw + encode(data_set, EXPLICIT), with_references=True)
    assert header.referenced_sop_instance_uids[0] == "1.6"


@pytest.mark.parametrize("transfer_syntax_uid", [IMPLICIT, EXPLICIT])
def test_a_thousand_nested_sequences_are_refused(transfer_syntax_uid: str) -> None:
    """Depth is bounded, without recursion."""
    vr = b"" if transfer_syntax_uid == IMPLICIT else b"SQ\0\0"
    level = struct.pack("<HH", 8, 0x1140) + vr + b"\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    with pytest.raises(DataSetError, match=str(MAX_DEPTH)):
        read(encode(Dataset(), transfer_syntax_uid) + level * 1000, transfer_syntax_uid)


def test_references_are_bounded() -> None:
    """Further references are left out, in memory that does not grow with them."""
    item = b"".join(
        struct.pack("<HHI", 0xFFFE, 0xE000, 18)
        + struct.pack("<HH2sH", 8, 0x1155, b"UI", 10)
        + b"1.%08d" % number
        for number in range(MAX_REFERENCES + 500)
    )
    raw = struct.pack("<HH2sHI", 8, 0x1140, b"SQ", 0, len(item)) + item
    header = read(raw + encode(result(), EXPLICIT), with_references=True)
    assert len(header.referenced_sop_instance_uids) == MAX_REFERENCES


def test_an_endless_header_is_refused() -> None:
    """The number of bytes read is bounded, for deflated bombs too."""
    raw = struct.pack("<HH2sH", 9, 1, b"LO", 0xFFF0) + bytes(0xFFF0)
    with pytest.raises(DataSetError):
        read(struct.pack("<HH2sH", 9, 1, b"LO", 0) * (MAX_EXAMINED_BYTES // 8 + 10))
    bomb = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = bomb.compress(raw * 1000) + bomb.flush()
    assert len(deflated) < 200_000
    with pytest.raises(DataSetError, match="too large"):
        read(deflated, DEFLATED)


def test_large_values_are_skipped_unread() -> None:
    """A private element of 20 GiB (a hole) before the UIDs is not read."""
    size = 3 << 30
    with tempfile.TemporaryFile() as file:
        file.write(struct.pack("<HH2sHI", 7, 0x10, b"OB", 0, size))
        file.seek(size, os.SEEK_CUR)
        file.write(encode(result(), EXPLICIT))
        file.flush()
        assert read_header(file.fileno(), 0, EXPLICIT, with_references=True).sop_instance_uid == "1.2.3.4"


SEEDS = [
    (syntax, encode(result(undefined=undefined), syntax))
    for syntax in (IMPLICIT, EXPLICIT, BIG, DEFLATED)
    for undefined in (False, True)
]


@given(
    seed=st.sampled_from(SEEDS),
    cuts=st.lists(st.tuples(st.integers(0, 900), st.binary(min_size=1, max_size=6)), min_size=1, max_size=8),
    end=st.integers(0, 900) | st.none(),
)
def test_mutated_bytes_raise_nothing_but_data_set_errors(
    seed: tuple[str, bytes], cuts: list[tuple[int, bytes]], end: int | None
) -> None:
    """The result is a header or a `DataSetError`, the same with references and without."""
    syntax, original = seed
    raw = bytearray(original)
    for position, patch in cuts:
        raw[position : position + len(patch)] = patch
    try:
        header = read(bytes(raw[:end]), syntax)
    except DataSetError:
        with pytest.raises(DataSetError):
            read(bytes(raw[:end]), syntax, with_references=True)
        return
    assert header.sop_instance_uid
    result = read(bytes(raw[:end]), syntax, with_references=True)
    assert result._replace(**NO_REFERENCES) == header
    assert all(is_uid(uid, 128) for uid in result.referenced_sop_instance_uids)


@given(st.binary(max_size=300), st.sampled_from([IMPLICIT, EXPLICIT, BIG, DEFLATED]))
def test_random_bytes_raise_nothing_but_data_set_errors(raw: bytes, syntax: str) -> None:
    """The same for noise."""
    with pytest.raises(DataSetError):
        read(raw, syntax, with_references=True)


def test_the_expected_header_is_what_pydicom_reads() -> None:
    """Pydicom reads the expected header of these tests back."""
    data_set = pydicom.dcmread(DicomBytesIO(encode(result(), IMPLICIT)), force=True)
    assert data_set.SOPInstanceUID == EXPECTED.sop_instance_uid
    assert read(encode(result(), IMPLICIT), IMPLICIT, with_references=True) == EXPECTED
