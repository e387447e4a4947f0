"""The cost of G1 alone: keep one instance after the other in the spool, without network and DICOM.

This is the upper limit of a sender with one association on this machine.
"""

import os
import time
from pathlib import Path

from gateway.spool.spool import Spool
from support.synthetic_instances import Instance
from support.wire_data import Load, data_set_bytes


def kept_per_second(load: Load, folder: Path) -> float:
    """Return how many instances of `load` per second become durable: file, name and folder."""
    spool = Spool(folder / f"durable-{len(list(folder.iterdir()))}")
    spool.prepare()
    spool.open_receiver()
    data_sets = data_set_bytes(load)
    os.sync()  # the state that a sender finds
    began = time.perf_counter()
    for instance, data_set in zip(load.instances, data_sets, strict=True):
        _keep(spool, instance, data_set)
    seconds = time.perf_counter() - began
    spool.close_receiver()
    return load.count / seconds


def _keep(spool: Spool, instance: Instance, data_set: bytes) -> None:
    partial = spool.begin()
    partial.write(data_set)
    partial.name(instance.study_instance_uid, [f"{instance.sop_instance_uid}.dcm"])
    partial.flush()
    partial.discard()
