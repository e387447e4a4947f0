"""The cost of G1 alone: spool and commit one instance after the other, without network and DICOM.

This is the upper limit of a sender with one association on this machine.
"""

import hashlib
import os
import time
from datetime import timedelta
from pathlib import Path

from gateway.database.pool import Database
from gateway.database.tables.instances import ReceivedInstance
from gateway.dicom.dataset.header import Header
from gateway.domain.instance import Kind
from gateway.domain.routing import Route
from gateway.lab.postgres import EmbeddedPostgres
from gateway.receive.commit import Committer
from gateway.spool.spool import Spool
from support.synthetic_instances import CT, EXPLICIT, Instance
from support.wire_data import Load, data_set_bytes
from support.wire_edge import TEMPLATE


def kept_per_second(load: Load, postgres: EmbeddedPostgres, folder: Path) -> float:
    """Return how many instances of `load` per second become durable.

    Durable means file, name, and rows with both deliveries.
    """
    name = f"bench_promise_{len(list(folder.iterdir()))}"
    place = folder / name
    place.mkdir()
    postgres.create_database(name, template=TEMPLATE)
    database = Database(postgres.dsn(name), application_name="bench")
    spool = Spool(place / "data")
    spool.prepare()
    spool.open_receiver()
    committer = Committer(database, window=timedelta(seconds=600))
    data_sets = data_set_bytes(load)
    os.sync()  # the state that a sender finds
    began = time.perf_counter()
    for instance, data_set in zip(load.instances, data_sets, strict=True):
        _keep(spool, committer, instance, data_set)
    seconds = time.perf_counter() - began
    spool.close_receiver()
    database.close()
    postgres.drop_database(name)
    return load.count / seconds


def _keep(spool: Spool, committer: Committer, instance: Instance, data_set: bytes) -> None:
    partial = spool.begin()
    partial.write(data_set)
    received = ReceivedInstance(
        sop_instance_uid=instance.sop_instance_uid,
        study_instance_uid=instance.study_instance_uid,
        series_instance_uid=instance.study_instance_uid,
        sop_class_uid=CT,
        transfer_syntax_uid=EXPLICIT,
        sha256=hashlib.sha256(data_set).digest(),
        data_set_size=len(data_set),
        calling_ae_title="BENCH",
        called_ae_title="MINI_EDGE",
        remote_address="127.0.0.1",
        kind=Kind.ORIGINAL,
        file_name=f"{instance.sop_instance_uid}.dcm",
        routes=(Route.PACS, Route.WORKERS),
        priority=4,
    )
    partial.name(instance.study_instance_uid, [received.file_name])
    committer.commit(received, _NO_HEADER, partial.flush)
    partial.discard()


_NO_HEADER = Header("", "", "", "", "", "", (), ())
"""Not used for an original."""
