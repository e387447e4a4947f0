"""What the edge must know of a reception beside its data set, kept in the file of the instance.

The envelope is the value of (0002,0102) in the File Meta Information (PS3.10 §7.1, Table 7.1-1). So file and
envelope are flushed together, and PostgreSQL is not needed before Success. Registration needs no other
source.

A file begins with zeros in this place. The envelope is written when the data set is complete, and before the
flush. It has a checksum of its own: an envelope that is missing or torn counts as unfinished, and a file with
an unfinished envelope was never acknowledged.
"""

import os
import struct
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from uuid import UUID
from zlib import crc32

from gateway.dicom.dataset.part10 import own_private_information
from gateway.domain.instance import Kind
from gateway.domain.routing import Origin, Route, Target
from gateway.errors import DataSetError, FileMissingError, SpoolError
from gateway.rules.ruleset import NO_RULES
from gateway.spool.flush import failure

ENVELOPE_BYTES = 2048
"""The length of (0002,0102). The longest envelope fits: see tests/unit/test_envelope.py."""

HEADER_BYTES = 4096
"""How many bytes at the beginning of a file hold its File Meta Information, whatever the UIDs are."""

_MAGIC = b"MPE3"
_FIXED = struct.Struct(">4s16sQQI32sBBBB16s")
_TEXTS = 8
# In the byte before the name of a target: the lower bits are the position of its route.
_REFUSED = 0x40
_UNDECIDED = 0x80
_ROUTE = 0x3F
_CHECKSUM = struct.Struct(">I")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# An envelope holds the position of a member in these: add members at the end only.
_KINDS = tuple(Kind)
_ORIGINS = tuple(Origin)
_ROUTES = tuple(Route)


class Envelope(NamedTuple):
    """One reception. `sha256` and `data_set_size` are those of the data set, in bytes.

    `epoch` is that of the spool when the instance was received: see gateway/spool/identity.py.

    `targets`, `refused` and `undecided` are what the rules decided, as in
    gateway/rules/ruleset.py, and `rules` is the digest of these rules. The instance is owed to `targets`.
    """

    reception_id: UUID
    received_at: datetime
    epoch: int
    calling_ae_title: str
    called_ae_title: str
    remote_address: str
    priority: int
    kind: Kind
    origin: Origin
    targets: tuple[Target, ...]
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    data_set_size: int
    sha256: bytes
    refused: tuple[Target, ...] = ()
    undecided: tuple[Target, ...] = ()
    rules: bytes = NO_RULES

    def pack(self) -> bytes:
        """Return the envelope as ENVELOPE_BYTES bytes."""
        fixed = _FIXED.pack(
            _MAGIC,
            self.reception_id.bytes,
            (self.received_at - _EPOCH) // _MICROSECOND,
            self.data_set_size,
            self.epoch,
            self.sha256,
            self.priority,
            _KINDS.index(self.kind),
            _ORIGINS.index(self.origin),
            len(self.targets) + len(self.refused),
            self.rules,
        )
        body = b"".join(
            (
                fixed,
                _packed_once(self.calling_ae_title),
                _packed_once(self.called_ae_title),
                _packed_once(self.remote_address),
                _packed_once(self.sop_class_uid),
                _packed(self.sop_instance_uid),
                _packed_once(self.study_instance_uid),
                _packed_once(self.series_instance_uid),
                _packed_once(self.transfer_syntax_uid),
                self._packed_targets(),
            )
        )
        padded = body.ljust(ENVELOPE_BYTES - _CHECKSUM.size, b"\0")
        if len(padded) > ENVELOPE_BYTES - _CHECKSUM.size:
            raise DataSetError("its UIDs, AE titles and targets are too long")
        return padded + _CHECKSUM.pack(crc32(padded))

    def _packed_targets(self) -> bytes:
        """Return each target that was asked, with one byte for its route and for what its rule said."""
        parts = []
        for flag, targets in ((0, self.targets), (_REFUSED, self.refused)):
            for target in targets:
                undecided = _UNDECIDED if target in self.undecided else 0
                parts.append(
                    bytes((_ROUTES.index(target.route) | flag | undecided,)) + _packed_once(target.name)
                )
        return b"".join(parts)


def _packed(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogateescape")
    return bytes((len(encoded),)) + encoded


_packed_once = lru_cache(maxsize=1024)(_packed)
"""For texts that many envelopes have: all but the SOP Instance UID."""


def unpack(block: bytes) -> Envelope | None:
    """Return the envelope in `block`; None if it is unfinished: zeros, or torn.

    Raises:
        SpoolError: it is finished, but of a form that this version does not know.
    """
    body, checksum = block[: -_CHECKSUM.size], block[-_CHECKSUM.size :]
    if len(block) != ENVELOPE_BYTES or _CHECKSUM.pack(crc32(body)) != checksum:
        return None
    try:
        return _decode(body)
    except (LookupError, ValueError, OverflowError) as error:
        raise SpoolError("its envelope is of a form that this version does not know") from error


def _decode(body: bytes) -> Envelope:
    if not body.startswith(_MAGIC):
        raise ValueError(body[: len(_MAGIC)])
    fixed = _FIXED.unpack_from(body)
    _, reception_id, microseconds, size, epoch, sha256, priority, kind, origin, count, rules = fixed
    texts = []
    at = _FIXED.size
    for _ in range(_TEXTS):
        text, at = _text_at(body, at)
        texts.append(text)
    accepted, refused, undecided = _targets_at(body, at, count)
    calling, called, address, sop_class, instance, study, series, syntax = texts
    return Envelope(
        reception_id=UUID(bytes=reception_id),
        received_at=_EPOCH + timedelta(microseconds=microseconds),
        epoch=epoch,
        calling_ae_title=calling,
        called_ae_title=called,
        remote_address=address,
        priority=priority,
        kind=_KINDS[kind],
        origin=_ORIGINS[origin],
        targets=accepted,
        sop_class_uid=sop_class,
        sop_instance_uid=instance,
        study_instance_uid=study,
        series_instance_uid=series,
        transfer_syntax_uid=syntax,
        data_set_size=size,
        sha256=sha256,
        refused=refused,
        undecided=undecided,
        rules=rules,
    )


def _targets_at(
    body: bytes, at: int, count: int
) -> tuple[tuple[Target, ...], tuple[Target, ...], tuple[Target, ...]]:
    """Return the targets that accepted, that refused, and that could not decide."""
    accepted: list[Target] = []
    refused: list[Target] = []
    undecided: list[Target] = []
    for _ in range(count):
        flags = body[at]
        name, at = _text_at(body, at + 1)
        target = Target(_ROUTES[flags & _ROUTE], name)
        (refused if flags & _REFUSED else accepted).append(target)
        if flags & _UNDECIDED:
            undecided.append(target)
    return tuple(accepted), tuple(refused), tuple(undecided)


def _text_at(body: bytes, at: int) -> tuple[str, int]:
    """Return the text that begins at an offset, and the offset behind it."""
    end = at + 1 + body[at]
    return body[at + 1 : end].decode("utf-8", "surrogateescape"), end


def read_envelope(path: Path) -> Envelope | None:
    """Return the finished envelope of a file; None if it has none, or is no Part 10 file.

    The bytes behind it are not verified: use `part10_file.holds`.

    Raises:
        FileMissingError: there is no file.
        SpoolError: the file cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise FileMissingError(f"{path} is not there") from error
    except OSError as error:
        raise failure("open", path, error) from error
    try:
        header = os.pread(descriptor, HEADER_BYTES, 0)
        block = own_private_information(header)
        return None if block is None else unpack(block)
    except DataSetError:
        return None
    except SpoolError as error:
        raise SpoolError(f"{path}: {error}") from error
    except OSError as error:
        raise failure("read", path, error) from error
    finally:
        os.close(descriptor)
