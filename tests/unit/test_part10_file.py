"""The edge reads back the same bytes that it wrote, whatever the data set begins with."""

import struct
import zlib
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.dicom_peers import CT, EXPLICIT, IMPLICIT

from gateway.dicom.dataset.part10 import own_data_set_offset, preamble_and_file_meta, read_file_meta
from gateway.errors import DataSetError, FileMissingError
from gateway.spool.part10_file import Part10File, holds

BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
REST = struct.pack("<HH2sH", 8, 0x18, b"UI", 6) + b"1.2.3\0"


def element(syntax: str, tag: tuple[int, int], vr: bytes, value: bytes) -> bytes:
    """One element in that transfer syntax."""
    order = ">" if syntax == BIG else "<"
    if syntax == IMPLICIT:
        return struct.pack("<HHI", *tag, len(value)) + value
    if vr in {b"OB", b"UN"}:
        return struct.pack(order + "HH2sHI", *tag, vr, 0, len(value)) + value
    return struct.pack(order + "HH2sH", *tag, vr, len(value)) + value


GROUPS = st.sampled_from([0, 1, 2, 2, 2, 3, 4, 5, 6, 8]) | st.integers(0, 0xFFFF)
NUMBERS = st.sampled_from([0, 1, 2, 3, 0x10, 0x12, 0x13, 0x16, 0x100, 0x102]) | st.integers(0, 0xFFFF)
ELEMENTS = st.lists(
    st.tuples(
        st.tuples(GROUPS, NUMBERS),
        st.sampled_from([b"UI", b"OB", b"UL", b"SH", b"AE", b"UN", b"??"]),
        st.binary(max_size=40),
    ),
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    syntax=st.sampled_from([EXPLICIT, IMPLICIT, BIG, DEFLATED]),
    prefix=ELEMENTS,
    sop_instance_uid=st.sampled_from(["1.2", "1.2.3", "1." + "2" * 62]),
    ae_title=st.sampled_from(["A", "MODALITY", "SIXTEEN_LETTERS_"]),
)
def test_any_prefix_of_elements_is_read_back(
    tmp_path: Path,
    syntax: str,
    prefix: list[tuple[tuple[int, int], bytes, bytes]],
    sop_instance_uid: str,
    ae_title: str,
) -> None:
    """G3: elements of any group, in any transfer syntax; also by a sender of such a file."""
    data_set = b"".join(element(syntax, *parts) for parts in prefix) + REST
    if syntax == DEFLATED:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data_set = deflate.compress(data_set) + deflate.flush()
    check(tmp_path, data_set, sop_instance_uid, syntax, ae_title)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=300))
def test_any_bytes_are_read_back(tmp_path: Path, noise: bytes) -> None:
    """The same for bytes that are no data set, and for a data set that begins with File Meta Information."""
    for data_set in (
        noise,
        b"\x02\0" + noise,
        preamble_and_file_meta(CT, "1.2", EXPLICIT, source_ae_title="X")[132:] + noise,
    ):
        check(tmp_path, data_set, "1.2.3", EXPLICIT, "US")


def check(folder: Path, data_set: bytes, sop_instance_uid: str, syntax: str, ae_title: str) -> None:
    """Check that what is written is read, by size, by digest, and by its offset."""
    head = preamble_and_file_meta(CT, sop_instance_uid, syntax, source_ae_title=ae_title)
    path = folder / "kept.dcm"
    path.write_bytes(head + data_set)
    with Part10File(path) as kept:
        assert b"".join(bytes(chunk) for chunk in kept.chunks()) == data_set
    assert holds(path, len(data_set), sha256(data_set).hexdigest())
    meta = read_file_meta(path.read_bytes()[:16_384])
    assert meta.data_set_offset == len(head) == own_data_set_offset(head)
    assert (meta.sop_instance_uid, meta.transfer_syntax_uid) == (sop_instance_uid, syntax)


@pytest.mark.parametrize("size", [0, 100, 131, 140, 143])
def test_a_torn_file_is_refused(tmp_path: Path, size: int) -> None:
    """It is cut off before its group length; only our own errors are raised."""
    head = preamble_and_file_meta(CT, "1.2.3", EXPLICIT, source_ae_title="X")
    path = tmp_path / "torn.dcm"
    path.write_bytes(head[:size])
    with pytest.raises(FileMissingError):
        Part10File(path)
    with pytest.raises(DataSetError):
        own_data_set_offset(head[:size])
    assert not holds(path, 0, sha256(b"").hexdigest())
