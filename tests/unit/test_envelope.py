"""The envelope of a reception in (0002,0102): what is written is read, and nothing else is."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.receptions import envelope_of, meta_of

from gateway.config.forwarder import MAX_APPLICATIONS, MAX_ARCHIVES
from gateway.domain.identifiers import MAX_DATA_SET_UID_LENGTH
from gateway.domain.instance import Kind
from gateway.domain.routing import Origin, Route, Target
from gateway.errors import DataSetError, FileMissingError, SpoolError
from gateway.spool.envelope import ENVELOPE_BYTES, HEADER_BYTES, Envelope, read_envelope, unpack
from gateway.spool.part10_file import Part10File, holds

KIND_AT = 73
"""The byte of the kind; that of the origin follows."""
LONGEST_ADDRESS = "fe80:1234:5678:9abc:def0:1234:5678:9abc%eth-uplink-0"


def uids(longest: int) -> st.SearchStrategy[str]:
    """Return UIDs, long ones often."""
    return st.text("0123456789.", min_size=1, max_size=longest) | st.just("1" * longest)


ENVELOPES = st.builds(
    Envelope,
    reception_id=st.uuids(),
    received_at=st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    epoch=st.integers(0, 2**32 - 1),
    calling_ae_title=st.text(max_size=4) | st.just("A" * 16) | st.just("\udcff" * 16),
    called_ae_title=st.text(max_size=4) | st.just("B" * 16),
    remote_address=st.ip_addresses().map(str) | st.just(LONGEST_ADDRESS),
    priority=st.integers(0, 255),
    kind=st.sampled_from(Kind),
    origin=st.sampled_from(Origin),
    targets=st.lists(
        st.builds(Target, st.sampled_from(Route), st.text(max_size=4) | st.just("A" * 16)), max_size=33
    ).map(tuple),
    sop_class_uid=uids(64),
    sop_instance_uid=uids(64),
    study_instance_uid=uids(MAX_DATA_SET_UID_LENGTH),
    series_instance_uid=uids(MAX_DATA_SET_UID_LENGTH),
    transfer_syntax_uid=uids(64),
    data_set_size=st.integers(0, 2**63 - 1),
    sha256=st.binary(min_size=32, max_size=32),
    rules=st.binary(min_size=16, max_size=16),
    refused=st.just(()),
    undecided=st.just(()),
)

LONGEST = Envelope(
    reception_id=UUID(int=2**128 - 1),
    received_at=datetime.max.replace(tzinfo=UTC),
    epoch=2**32 - 1,
    calling_ae_title="\udcff" * 16,
    called_ae_title="B" * 16,
    remote_address=LONGEST_ADDRESS,
    priority=255,
    kind=Kind.RESULT,
    origin=Origin.WORKER,
    targets=(
        Target(Route.PACS, "P" * 16),
        *[Target(Route.ARCHIVES, "A" * 16)] * MAX_ARCHIVES,
        *[Target(Route.WORKERS, "a" * 32)] * MAX_APPLICATIONS,
    ),
    sop_class_uid="1" * 64,
    sop_instance_uid="2" * 64,
    study_instance_uid="3" * MAX_DATA_SET_UID_LENGTH,
    series_instance_uid="4" * MAX_DATA_SET_UID_LENGTH,
    transfer_syntax_uid="5" * 64,
    data_set_size=2**63 - 1,
    sha256=b"\xff" * 32,
)


def file_of(
    tmp_path: Path, envelope: Envelope, *, block: bytes | None = None, data_set: bytes = b"data set"
) -> Path:
    """Write a file with an envelope; `block` replaces the packed one."""
    path = tmp_path / "file"
    meta = meta_of(envelope)
    path.write_bytes(meta[:-ENVELOPE_BYTES] + (envelope.pack() if block is None else block) + data_set)
    return path


@given(ENVELOPES)
def test_what_is_packed_is_unpacked(envelope: Envelope) -> None:
    """Each value returns as it was, bytes of an AE title that are no UTF-8 included."""
    block = envelope.pack()
    assert len(block) == ENVELOPE_BYTES
    assert unpack(block) == envelope


def test_the_longest_values_fit(tmp_path: Path) -> None:
    """The File Meta Information fits into the bytes that are read."""
    assert unpack(LONGEST.pack()) == LONGEST
    assert len(meta_of(LONGEST)) <= HEADER_BYTES
    assert read_envelope(file_of(tmp_path, LONGEST)) == LONGEST


def test_values_that_do_not_fit_are_refused_before_success() -> None:
    """`pack` fails, so the sender gets an error."""
    with pytest.raises(DataSetError):
        envelope_of(study_instance_uid="1" * 250, targets=[Target(Route.WORKERS, "a" * 32)] * 60).pack()


@given(ENVELOPES, st.integers(0, ENVELOPE_BYTES), st.sampled_from([b"\0", b"\xff"]))
def test_a_torn_block_is_unfinished(envelope: Envelope, written: int, filler: bytes) -> None:
    """A power cut may leave any beginning of it, or any end."""
    block = envelope.pack()
    for torn in (
        block[:written] + filler * (ENVELOPE_BYTES - written),
        filler * written + block[written:],
        block[:written],
    ):
        assert torn == block or unpack(torn) is None


@given(ENVELOPES, st.integers(0, 8 * ENVELOPE_BYTES - 1))
def test_one_wrong_bit_is_found(envelope: Envelope, bit: int) -> None:
    """The checksum covers each byte, its own included."""
    block = bytearray(envelope.pack())
    block[bit // 8] ^= 1 << bit % 8
    assert unpack(bytes(block)) is None


@pytest.mark.parametrize(("at", "value"), [(0, b"MPE9"), (KIND_AT, b"\x09"), (KIND_AT + 1, b"\x09")])
def test_a_finished_envelope_of_another_form_is_no_unfinished_one(at: int, value: bytes) -> None:
    """It may be acknowledged, so it is kept for the version of the gateway that knows its form."""
    body = bytearray(envelope_of().pack()[:-4])
    body[at : at + len(value)] = value
    with pytest.raises(SpoolError, match="does not know"):
        unpack(bytes(body) + crc32(body).to_bytes(4, "big"))


@given(st.binary(min_size=ENVELOPE_BYTES - 4, max_size=ENVELOPE_BYTES - 4))
def test_any_bytes_with_a_right_checksum_end_in_a_spool_error(body: bytes) -> None:
    """No other exception reaches the registrar, which would end the process."""
    for start in (b"", b"MPE2"):
        forged = (start + body)[: ENVELOPE_BYTES - 4]
        with suppress(SpoolError):
            unpack(forged + crc32(forged).to_bytes(4, "big"))


def test_zeros_are_unfinished(tmp_path: Path) -> None:
    """A file begins with zeros in this place."""
    assert unpack(bytes(ENVELOPE_BYTES)) is None
    assert read_envelope(file_of(tmp_path, envelope_of(), block=bytes(ENVELOPE_BYTES))) is None


def test_a_forged_envelope_in_the_data_set_is_not_read(tmp_path: Path) -> None:
    """A data set may begin with elements of group 0002; only those within the group length count."""
    own, forged = envelope_of(), envelope_of()
    imitation = meta_of(forged)[132:-ENVELOPE_BYTES] + forged.pack()
    finished = file_of(tmp_path, own, data_set=imitation)
    assert read_envelope(finished) == own
    unfinished = file_of(tmp_path, own, block=bytes(ENVELOPE_BYTES), data_set=imitation)
    assert read_envelope(unfinished) is None


def test_a_forged_envelope_in_a_file_without_one_is_not_read(tmp_path: Path) -> None:
    """The same, in a file that a version before wrote."""
    forged = envelope_of()
    old = meta_of(forged)
    end = old.index(b"\x02\x00\x00\x01UI")
    path = tmp_path / "file"
    length = (end - 144).to_bytes(4, "little")
    path.write_bytes(old[:140] + length + old[144:end] + old[end:-ENVELOPE_BYTES] + forged.pack())
    assert read_envelope(path) is None
    with Part10File(path) as file:
        assert file.data_set_size == len(old) - end


@pytest.mark.parametrize("length", [0, 1, 131, 132, 143, 144, 300, 700])
def test_a_file_that_is_cut_off_has_no_envelope(tmp_path: Path, length: int) -> None:
    """A power cut may leave any length."""
    path = file_of(tmp_path, envelope_of())
    path.write_bytes(path.read_bytes()[:length])
    assert read_envelope(path) is None


def test_the_group_length_covers_the_envelope(tmp_path: Path) -> None:
    """The data set begins directly behind it, with its size and digest."""
    envelope = envelope_of(b"data set")
    path = file_of(tmp_path, envelope)
    header = path.read_bytes()
    length = int.from_bytes(header[140:144], "little")
    assert header[144 + length :] == b"data set"
    assert header[144 + length - ENVELOPE_BYTES : 144 + length] == envelope.pack()
    assert holds(path, envelope.data_set_size, envelope.sha256.hex())


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    """It is not unfinished: another process has registered it."""
    with pytest.raises(FileMissingError):
        read_envelope(tmp_path / "file")


def test_times_are_kept_to_the_microsecond() -> None:
    """The order of two receptions must not change."""
    first = datetime(2026, 11, 28, 12, 0, 0, 123456, tzinfo=UTC)
    for later in (first, first + timedelta(microseconds=1)):
        read = unpack(envelope_of(received_at=later).pack())
        assert read is not None
        assert read.received_at == later
