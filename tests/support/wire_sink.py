"""A Storage SCP that keeps nothing and records times: the PACS of the benchmarks, as a program.

`python wire_sink.py PORT FILE [EDGE_PORT AE_TITLE…]` appends a line `<SOP Instance UID> <monotonic
seconds>` to FILE for each instance that it answered. With AE titles it acts as that many workers, on the
ports from PORT on. Each worker returns a result at once over an association that stays open: a small
Secondary Capture that references its source.
"""

import itertools
import os
import queue
import socket
import sys
import threading
import time

from gateway.dicom.acceptor import Acceptor
from gateway.dicom.association import Association, PeerAddress
from gateway.dicom.contexts import ProposedContext, storage_sop_classes
from gateway.dicom.policy import Rejection, Requestor, StoreRequest, Timeouts
from gateway.dicom.requestor import associate
from support.synthetic_instances import Instance, result_of

STUDY_TAG = b"\x20\x00\x0d\x00UI"
RESULT = ProposedContext(result_of(Instance()).sop_class_uid, Instance().context.transfer_syntax_uid)


class Sink:
    """Records each instance, and passes it to `then` if there is one."""

    def __init__(self, notes: int, results: "queue.SimpleQueue[Instance] | None" = None) -> None:
        self.accepted_sop_classes = storage_sop_classes()
        self.notes = notes
        self.results = results

    def admit(self, _requestor: Requestor) -> Rejection | None:
        """Admit every association."""
        return None

    def store(self, _requestor: Requestor, request: StoreRequest) -> "Arriving":
        """Accept the data set, and keep nothing."""
        return Arriving(self, request)

    def ended(self, *_: object) -> None:
        """Do nothing: no benchmark needs it."""

    def ended_unadmitted(self, *_: object) -> None:
        """Do nothing: no benchmark needs it."""


class Arriving:
    """One instance; its first bytes are kept for the worker that answers it."""

    def __init__(self, sink: Sink, request: StoreRequest) -> None:
        self._sink = sink
        self._request = request
        self._head = b""

    def write(self, *fragments: memoryview) -> None:
        """Keep the first bytes only."""
        if not self._head and self._sink.results is not None:
            self._head = b"".join(fragments)[:2048]

    def finish(self) -> tuple[int, str]:
        """Record the instance and answer Success."""
        line = f"{self._request.sop_instance_uid} {time.monotonic():.6f}\n"
        os.write(self._sink.notes, line.encode())
        if self._sink.results is not None:
            self._sink.results.put(self._source())
        return 0, ""

    def _source(self) -> Instance:
        at = self._head.index(STUDY_TAG) + len(STUDY_TAG)
        length = int.from_bytes(self._head[at : at + 2], "little")
        study = self._head[at + 2 : at + 2 + length].rstrip(b"\0").decode()
        return Instance(sop_instance_uid=self._request.sop_instance_uid, study_instance_uid=study)

    def answered(self) -> None:
        """Do nothing: no step is left."""

    def abandon(self, reason: str) -> None:
        """Do nothing: no data is kept."""


def serve(sink: Sink, port: int) -> None:
    """Accept connections until the process ends."""
    acceptor = Acceptor(sink, 131_072, Timeouts(30, 60, 600))
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    while True:
        connection, address = listener.accept()
        threading.Thread(target=acceptor.serve, args=(connection, address), daemon=True).start()


def answer(results: "queue.SimpleQueue[Instance]", ae_title: str, edge_port: int) -> None:
    """Return a result for each source until the process ends."""
    peer = PeerAddress("127.0.0.1", edge_port, "MINI_EDGE", timeout_seconds=30, connect_timeout_seconds=10)
    association: Association | None = None
    for number in itertools.count():
        result = result_of(results.get(), number=number % 65_536)
        if association is None or not association.is_alive():
            association = associate(peer, calling_ae_title=ae_title, contexts=[RESULT])
        association.store(RESULT, result.sop_instance_uid, [result.data_set()])


def main() -> None:
    """Run the program that the module describes."""
    port, path, *rest = sys.argv[1:]
    notes = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    if not rest:
        serve(Sink(notes), int(port))
        return
    edge_port, *titles = rest
    threads = []
    for number, title in enumerate(titles):
        results: queue.SimpleQueue[Instance] = queue.SimpleQueue()
        threads += [
            threading.Thread(target=serve, args=(Sink(notes, results), int(port) + number)),
            threading.Thread(target=answer, args=(results, title, int(edge_port))),
        ]
    for thread in threads:
        thread.start()


if __name__ == "__main__":
    main()
