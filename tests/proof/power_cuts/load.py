"""What the senders of a run send, and their journal: each answer, with the step at which it was there.

The journal is in the memory of this program, outside of the file system that loses its power. A sender reads
the position behind an answer. A cut at this position or a later one must not take what was answered.
"""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from support.edge_setup import store
from support.synthetic_instances import Instance, new_uid, result_of

from gateway.config import Configuration
from gateway.dicom.association import Association, PeerAddress
from gateway.dicom.requestor import associate
from gateway.errors import AssociationRejectedError, PeerError
from gateway.receive.c_store import LARGE_BYTES
from proof.power_cuts.server import Position

MODALITY, WORKER = "ORTHANC", "APP01"
_SMALL_BYTES = 10_000
"""More than two blocks, so that a small file can be torn as well."""
_TIMEOUT_SECONDS = 30.0
_REJECTED_SECONDS = 15.0
_RETRY_SECONDS = 0.1

Sending = tuple[str, Sequence[Instance]]
"""A calling AE title and what it sends over one association."""
Key = tuple[str, str]
"""SOP Instance UID and digest of the data set."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to a C-STORE."""

    key: Key
    status: int
    position: int


def key_of(instance: Instance) -> Key:
    """Return how an instance is told from others, versions included."""
    return instance.sop_instance_uid, instance.digest


def senders(generator: Random) -> list[list[Sending]]:
    """Return what each of four senders sends, one association after the other.

    Small and large instances, repeats (also at the same time by two senders), a second version, and a result.
    """

    def instance(study: str, size: int = _SMALL_BYTES, uid: str | None = None) -> Instance:
        return Instance(uid or new_uid(), study, payload=generator.randbytes(size))

    first, second = new_uid(), new_uid()
    study = [instance(first) for _ in range(3)]
    version = instance(first, uid=study[1].sop_instance_uid)
    large = instance(second, LARGE_BYTES + 4096)
    middle = instance(second, 1 << 20)
    source = instance(new_uid())
    return [
        [(MODALITY, [*study, study[0], version])],
        [(MODALITY, [large, middle, instance(second)])],
        [(MODALITY, [source]), (WORKER, [result_of(source)]), (MODALITY, [instance(new_uid())])],
        [(MODALITY, [study[0], study[2], large])],
    ]


class Load:
    """Senders in threads, and their journal."""

    def __init__(self, configuration: Configuration, position: Position) -> None:
        edge = configuration.edge
        self._peer = PeerAddress(
            "127.0.0.1",
            edge.port,
            edge.ae_title,
            timeout_seconds=_TIMEOUT_SECONDS,
            connect_timeout_seconds=10,
        )
        self._position = position
        self._threads: list[threading.Thread] = []
        self.sent: dict[Key, Instance] = {}
        """Everything that a sender may have begun to send."""
        self.answers: list[Answer] = []

    def begin(self, scripts: Sequence[Sequence[Sending]]) -> None:
        """Let a thread for each script send; it ends early where the edge goes away."""
        for script in scripts:
            for _, instances in script:
                self.sent |= {key_of(instance): instance for instance in instances}
            thread = threading.Thread(target=self._send_all, args=(script,))
            self._threads.append(thread)
            thread.start()

    def is_over(self) -> bool:
        """Tell whether every sender has ended."""
        return not any(thread.is_alive() for thread in self._threads)

    def end(self) -> None:
        """Wait for the senders; the edge was killed, or they are done."""
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def send(self, instance: Instance) -> int | None:
        """Send one instance from this thread; return its status, None if there was no answer."""
        before = len(self.answers)
        self.sent[key_of(instance)] = instance
        self._send_all([(MODALITY, [instance])])
        return self.answers[before].status if len(self.answers) > before else None

    def acknowledged(self, position: int | None = None) -> set[Key]:
        """Return what was answered Success, until that step if one is given."""
        return {
            answer.key
            for answer in self.answers
            if not answer.status and (position is None or answer.position <= position)
        }

    def _send_all(self, script: Sequence[Sending]) -> None:
        with suppress(PeerError):
            for calling, instances in script:
                with self._associate(calling, instances) as association:
                    for instance in instances:
                        status, _ = store(association, instance)
                        self.answers.append(Answer(key_of(instance), status, self._position.get()))

    def _associate(self, calling: str, instances: Sequence[Instance]) -> Association:
        """Open an association; repeat while it is rejected, as the edge does until it knows its database."""
        contexts = list({instance.context: None for instance in instances})
        deadline = time.monotonic() + _REJECTED_SECONDS
        while True:
            try:
                return associate(self._peer, calling_ae_title=calling, contexts=contexts)
            except AssociationRejectedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_SECONDS)  # the interval between two attempts
