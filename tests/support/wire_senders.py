"""The senders of the benchmarks: DCMTK's dcmsend as processes, and the edge's requestor in this process."""

import os
import statistics
import subprocess
import time
from collections.abc import Sequence

from gateway.dicom.association import PeerAddress
from gateway.dicom.contexts import ProposedContext
from gateway.dicom.requestor import associate
from support.dicom_peers import dcmtk
from support.synthetic_instances import CT, EXPLICIT
from support.wire_data import Load, data_set_bytes

CONTEXT = ProposedContext(CT, EXPLICIT)
CALLING = "ORTHANC"


def dcmsend(load: Load, port: int, called: str, associations: int, *, nagle: bool = False) -> float:
    """Return the instances per second, from the start of the first sender to the end of the last.

    DCMTK leaves Nagle's algorithm on unless TCP_NODELAY is set.
    """
    shares: list[list[str]] = [[] for _ in range(associations)]
    for number, folder in enumerate(load.folders):
        shares[number % associations].append(str(folder))
    os.sync()  # else our fsync would also write the data of the measurement before
    began = time.perf_counter()
    running = [
        subprocess.Popen(
            [
                dcmtk("dcmsend"), "--scan-directories", "--no-uid-checks", "--max-pdu", "131072",
                "--max-send-pdu", "131072", "-aet", CALLING, "-aec", called, "127.0.0.1", str(port), *share,
            ],
            env={"PATH": "/usr/bin:/bin", "TCP_NODELAY": "0" if nagle else "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for share in shares
        if share
    ]  # fmt: skip
    outputs = [process.communicate(timeout=900)[0] for process in running]
    seconds = time.perf_counter() - began
    for process, output in zip(running, outputs, strict=True):
        assert process.returncode == 0, output
    return load.count / seconds


def one_by_one(load: Load, peer: PeerAddress) -> float:
    """Return the milliseconds to associate, store one instance and release: the median over all of `load`."""
    times = []
    for instance, data in zip(load.instances, data_set_bytes(load), strict=True):
        began = time.perf_counter()
        with associate(peer, calling_ae_title=CALLING, contexts=[CONTEXT]) as association:
            status, comment = association.store(CONTEXT, instance.sop_instance_uid, [data])
        times.append(time.perf_counter() - began)
        assert status == 0, comment
    return statistics.median(times) * 1000


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of all values does not exceed; 1.0 gives the largest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
