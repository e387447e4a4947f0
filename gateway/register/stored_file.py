"""Examine a file in a place of the spool: which reception it holds, and whether it is complete.

A file of version 0.3.0 or later has an envelope. An unfinished one says that the instance was never
acknowledged. A file of an earlier version has none: its values are read from the data set, and its digest is
computed. Its reception id is derived from its content, so it is the same each time.
"""

import hashlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from uuid import UUID, uuid5

from gateway.config import Configuration
from gateway.dicom.dataset.header import facts_of, read_header
from gateway.dicom.dataset.part10 import FileMeta, own_private_information, read_file_meta
from gateway.domain.identifiers import MAX_DATA_SET_UID_LENGTH, is_uid
from gateway.domain.instance import Kind, Place
from gateway.domain.matching import is_result
from gateway.domain.routing import priority_for
from gateway.errors import DataSetError
from gateway.register.caller_origin import CallerOrigins
from gateway.spool.envelope import HEADER_BYTES, Envelope, unpack
from gateway.spool.flush import failure

CHUNK_BYTES = 256 * 1024
_NAMESPACE = UUID("6a3f3c2e-3d0d-4f0e-9a57-2f2f0a1f7c11")


class Defect(StrEnum):
    """Why a file holds no reception that can be registered."""

    UNFINISHED = "unfinished"  # never acknowledged
    DAMAGED = "damaged"  # its bytes are not those of its envelope
    UNREADABLE = "unreadable"  # no instance that the gateway wrote, or in the folder of another study


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A whole file in a place, with the values of its reception. `has_envelope` is False for old versions."""

    path: Path
    place: Place
    envelope: Envelope
    has_envelope: bool

    @property
    def name(self) -> tuple[str, str]:
        """Its study and file name, as its row names them."""
        return self.envelope.study_instance_uid, self.path.name


def examine(
    path: Path, place: Place, configuration: Configuration, origins: CallerOrigins
) -> StoredFile | Defect:
    """Read the file and verify its bytes.

    Raises:
        FileNotFoundError: it was moved meanwhile.
        SpoolError: it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _examine(descriptor, path, place, configuration, origins)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except DataSetError:
        return Defect.UNREADABLE
    except OSError as error:
        raise failure("read", path, error) from error


def _examine(
    descriptor: int, path: Path, place: Place, configuration: Configuration, origins: CallerOrigins
) -> StoredFile | Defect:
    header = os.pread(descriptor, HEADER_BYTES, 0)
    meta = read_file_meta(header)
    block = own_private_information(header)
    size, sha256 = _digest(descriptor, meta.data_set_offset)
    if block is None:
        envelope = _of_old_version(
            descriptor, meta, size=size, sha256=sha256, configuration=configuration, origins=origins
        )
    else:
        finished = unpack(block)
        if finished is None:
            return Defect.UNFINISHED
        if (finished.data_set_size, finished.sha256) != (size, sha256):
            return Defect.DAMAGED
        envelope = finished
    if envelope.study_instance_uid != path.parent.name:
        return Defect.UNREADABLE
    return StoredFile(path, place, envelope, block is not None)


def _digest(descriptor: int, offset: int) -> tuple[int, bytes]:
    digest = hashlib.sha256()
    size = 0
    while chunk := os.pread(descriptor, CHUNK_BYTES, offset + size):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.digest()


def _of_old_version(
    descriptor: int,
    meta: FileMeta,
    *,
    size: int,
    sha256: bytes,
    configuration: Configuration,
    origins: CallerOrigins,
) -> Envelope:
    """Return what can be known of a reception without envelope. Its time is that of the file."""
    rules = configuration.forwarder.rules
    values = read_header(
        descriptor, meta.data_set_offset, meta.transfer_syntax_uid, with_references=False, asked=rules.asked
    )
    if not is_uid(values.sop_instance_uid) or not all(
        is_uid(uid, MAX_DATA_SET_UID_LENGTH)
        for uid in (values.study_instance_uid, values.series_instance_uid)
    ):
        raise DataSetError("its UIDs are not valid")
    # Only the AE title is known, not the address.
    caller = origins.identify(meta.source_ae_title, "0.0.0.0")  # noqa: S104  no address binds here
    description = configuration.edge.result_series_description
    result = is_result(caller.origin, values.series_description, result_description=description)
    kind = Kind.RESULT if result else Kind.ORIGINAL
    facts = facts_of(
        values,
        calling_ae_title=meta.source_ae_title,
        called_ae_title=configuration.edge.ae_title,
        transfer_syntax_uid=meta.transfer_syntax_uid,
    )
    forwarder = configuration.forwarder
    decision = rules.decide(forwarder.targets.of(kind, forwarder.mode, sent_by=caller.archive), facts)
    return Envelope(
        reception_id=uuid5(_NAMESPACE, f"{values.sop_instance_uid} {sha256.hex()}"),
        received_at=datetime.fromtimestamp(os.fstat(descriptor).st_mtime, UTC),
        epoch=0,
        calling_ae_title=meta.source_ae_title,
        called_ae_title=configuration.edge.ae_title,
        remote_address="",
        priority=priority_for(kind, urgent=False),
        kind=kind,
        origin=caller.origin,
        targets=decision.accepted,
        sop_class_uid=values.sop_class_uid,
        sop_instance_uid=values.sop_instance_uid,
        study_instance_uid=values.study_instance_uid,
        series_instance_uid=values.series_instance_uid,
        transfer_syntax_uid=meta.transfer_syntax_uid,
        data_set_size=size,
        sha256=sha256,
        refused=decision.refused,
        undecided=decision.undecided,
        rules=rules.digest,
    )
