"""File Meta Information that pydicom reads back, and that is read wherever it ends."""

from io import BytesIO

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.dicom_peers import CT, EXPLICIT, bundled_files

from gateway.dicom.dataset.part10 import FileMeta, preamble_and_file_meta, read_file_meta
from gateway.dicom.negotiation import IMPLEMENTATION_CLASS_UID
from gateway.errors import DataSetError


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34", "1." + "2" * 62])
def test_what_is_written_is_read_by_pydicom_and_by_us(uid: str) -> None:
    """PS3.10 §7.1, with UIDs of odd and even length."""
    head = preamble_and_file_meta(CT, uid, EXPLICIT, source_ae_title="MODALITY")
    meta = pydicom.dcmread(BytesIO(head)).file_meta
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.MediaStorageSOPInstanceUID == uid
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert meta.SourceApplicationEntityTitle == "MODALITY"
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert meta.FileMetaInformationGroupLength == len(head) - 144
    assert read_file_meta(head + b"\x08\0\x16\0") == FileMeta(CT, uid, EXPLICIT, len(head), "MODALITY")


def test_bundled_files_are_read_as_pydicom_reads_them() -> None:
    """Wrong group lengths included."""
    count = 0
    for path in bundled_files():
        try:
            ours = read_file_meta(path.read_bytes()[:65_536])
        except DataSetError:
            continue
        theirs = pydicom.filereader.read_file_meta_info(path)
        assert ours.transfer_syntax_uid == theirs.TransferSyntaxUID
        assert ours.sop_instance_uid == theirs.get("MediaStorageSOPInstanceUID", "")
        count += 1
    assert count > 50


@given(st.binary(max_size=60), st.integers(0, 300))
def test_garbage_raises_nothing_but_data_set_errors(noise: bytes, end: int) -> None:
    """Cut off, overwritten, or no Part 10 file."""
    head = preamble_and_file_meta(CT, "1.2.3", EXPLICIT, source_ae_title="X")
    for raw in (noise, head[:end], head[:140] + noise, head[:132] + noise + head[132:]):
        try:
            read_file_meta(raw)
        except DataSetError:
            continue
