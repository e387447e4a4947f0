"""Receptions made by hand: an envelope, and its file as a receiver leaves it."""

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from gateway.dicom.dataset.part10 import preamble_and_file_meta
from gateway.domain.instance import Kind, file_names
from gateway.domain.routing import PRIORITY, Origin, Route, Target, Urgency
from gateway.register.unregistered import Unregistered
from gateway.spool.envelope import ENVELOPE_BYTES, Envelope
from gateway.spool.spool import Spool
from support.synthetic_instances import CT, EXPLICIT, new_uid


def envelope_of(data_set: bytes = b"", **changes: Any) -> Envelope:
    """Return the envelope of a new original with that data set; `changes` replace its fields."""
    envelope = Envelope(
        reception_id=uuid4(),
        received_at=datetime.now(UTC),
        epoch=1,
        calling_ae_title="CT1",
        called_ae_title="MINI_EDGE",
        remote_address="127.0.0.1",
        priority=PRIORITY[Urgency.ORIGINAL],
        kind=Kind.ORIGINAL,
        origin=Origin.SENDER,
        targets=(Target(Route.PACS, "ORTHANC"), Target(Route.WORKERS, "default")),
        sop_class_uid=CT,
        sop_instance_uid=new_uid(),
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.3.4",
        transfer_syntax_uid=EXPLICIT,
        data_set_size=len(data_set),
        sha256=sha256(data_set).digest(),
    )
    return envelope._replace(**changes)


def meta_of(envelope: Envelope) -> bytes:
    """Return what precedes the data set, with an empty place for the envelope."""
    return preamble_and_file_meta(
        envelope.sop_class_uid,
        envelope.sop_instance_uid,
        envelope.transfer_syntax_uid,
        source_ae_title=envelope.calling_ae_title,
        receiving_ae_title=envelope.called_ae_title,
        private_bytes=ENVELOPE_BYTES,
    )


def received(spool: Spool, data_set: bytes = b"data set", **changes: Any) -> Unregistered:
    """Keep a reception in the spool, durable and unregistered."""
    envelope = envelope_of(data_set, **changes)
    part = written(spool, envelope, data_set)
    path = part_named(spool, part, envelope)
    return Unregistered(envelope, str(path), str(part))


def written(spool: Spool, envelope: Envelope, data_set: bytes) -> Path:
    """Write a sealed `.part` file without a final name."""
    meta = meta_of(envelope)
    part = spool.begin()
    part.write(meta)
    part.write(data_set)
    part.seal(envelope.pack(), len(meta) - ENVELOPE_BYTES)
    part.close()
    return Path(part.path)


def part_named(spool: Spool, part: Path, envelope: Envelope) -> Path:
    """Give a `.part` file its final name."""
    names = file_names(envelope.sop_instance_uid, envelope.sha256.hex())
    return spool.link(part, envelope.study_instance_uid, names)
