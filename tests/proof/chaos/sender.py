"""`python -m proof.chaos.sender ORDER`: one modality that sends at its rate until SIGTERM.

It follows a plan: it sends again what was not answered Success, and catches up after lost time. It writes
each answer to its journal after the answer came, so a killed sender records at most what was on the wire.
After a restart it continues behind the last Success of its journal.

    SIGUSR1   die (SIGKILL) in the middle of the next instance
    SIGUSR2   abort the association in the middle of the next instance
    SIGTERM   end after this study
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from support.synthetic_instances import Instance

from gateway.dicom.association import Association, PeerAddress
from gateway.dicom.requestor import associate
from gateway.errors import PeerError
from proof.chaos.journal import BROKEN, NOT_OPENED, SUCCESS, Journal, read
from proof.chaos.sent_instances import STUDY_SIZE, Number, count_of, instance

DUPLICATES = 0.06
"""Share of studies of which a part is sent again."""
RIVALS = 0.06
"""Share of studies of which a neighbour's instances are sent as well, at about the same time."""
CONFLICTS = 0.06
"""Share of studies of which one instance is sent again with other bytes."""
EXTRA = 3
PAUSE_SECONDS = 0.25
"""The pause before a failed instance is sent again."""
TIMEOUT_SECONDS = 10.0
"""Must exceed edge.commit_timeout_seconds, so that a slow answer is received."""
CONNECT_SECONDS = 3.0
FILLER = bytes(1 << 20)
"""Must exceed the buffer of our association."""
NEW = "new"
ORIGINAL, RESULT = "original", "result"
"""Follows the colon in the word of a line; the expected deliveries depend on it.

In a hospital an original has its Modality instead.
"""


@dataclass(frozen=True, slots=True)
class SenderOptions:
    """The sender's number and titles, its destination, and its rate."""

    seed: int
    sender: int
    senders: int
    calling_ae_title: str
    called_ae_title: str
    port: int
    journal: str
    rate: float
    begun: float
    """Seconds of the epoch at which the first instance was due."""
    hospital: bool = False
    """Send the studies of a hospital (`sent_instances.HOSPITAL_STUDIES`)."""

    def text(self) -> str:
        """Return the options as one argument of the command line."""
        return json.dumps(asdict(self))


class _Aborted(Exception):  # noqa: N818  an order, not an error
    """A signal asked for an abort in the middle of a data set."""


class Sender:
    """Sends study after study; signals change what happens to the next instance."""

    def __init__(self, order: SenderOptions) -> None:
        self._order = order
        self._journal = Journal(Path(order.journal))
        self._next = 1 + max(
            (count_of(e.sop_instance_uid) for e in read(Path(order.journal)) if _is_done(e.status, e.word)),
            default=-1,
        )
        self._dies = False
        self._aborts = False
        self._stopping = False

    def listen(self) -> None:
        """Install the signal handlers."""
        signal.signal(signal.SIGUSR1, lambda *_: setattr(self, "_dies", True))
        signal.signal(signal.SIGUSR2, lambda *_: setattr(self, "_aborts", True))
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "_stopping", True))

    def run(self) -> None:
        """Send until SIGTERM."""
        while not self._stopping:
            ahead = self._next - (time.time() - self._order.begun) * self._order.rate
            if ahead > 0:
                time.sleep(min(ahead / self._order.rate, 0.5))
                continue
            study = [(self._number(count), NEW) for count in self._rest_of_study()]
            extras = self._extras() if self._next % STUDY_SIZE == 0 else []
            if not self._send([*study, *extras]) and not self._stopping:
                time.sleep(PAUSE_SECONDS)

    def _rest_of_study(self) -> range:
        return range(self._next, (self._next // STUDY_SIZE + 1) * STUDY_SIZE)

    def _number(self, count: int, *, version: int = 0, sender: int | None = None) -> Number:
        order = self._order
        return Number(order.seed, order.sender if sender is None else sender, count, version, order.hospital)

    def _extras(self) -> list[tuple[Number, str]]:
        """Return what is sent beside the plan.

        These are repeats, a neighbour's instances, and other bytes under a known UID.
        """
        order, study = self._order, self._next // STUDY_SIZE
        dice = Random(f"{order.seed}:{order.sender}:study {study}")  # noqa: S311  to be repeatable
        counts = range(max(0, self._next - STUDY_SIZE), self._next)[:EXTRA]
        extras: list[tuple[Number, str]] = []
        if dice.random() < DUPLICATES:
            extras += [(self._number(count), "duplicate") for count in counts]
        if dice.random() < RIVALS:
            neighbour = (order.sender + 1) % order.senders
            ahead = range(self._next, self._next + EXTRA)
            extras += [(self._number(count, sender=neighbour), "rival") for count in ahead]
        if dice.random() < CONFLICTS:
            extras += [(self._number(count, version=1), "conflict") for count in counts[:1]]
        return extras

    def _send(self, wares: list[tuple[Number, str]]) -> bool:
        """Send them over one association; return False at the first new one that was not accepted."""
        order = self._order
        peer = PeerAddress("127.0.0.1", order.port, order.called_ae_title, TIMEOUT_SECONDS, CONNECT_SECONDS)
        instances = [(instance(number), word) for number, word in wares]
        contexts = list(dict.fromkeys(one.context for one, _ in instances))
        began, is_open = time.monotonic(), False
        try:
            with associate(peer, calling_ae_title=order.calling_ae_title, contexts=contexts) as association:
                is_open = True
                return all(self._send_one(association, one, word) for one, word in instances)
        except (PeerError, _Aborted):
            if not is_open:
                self._journal.note("-", "-", NOT_OPENED, "association", time.monotonic() - began)
            return False

    def _send_one(self, association: Association, one: Instance, word: str) -> bool:
        data_set = one.data_set()
        status = BROKEN
        began = time.monotonic()
        try:
            number, _ = association.store(one.context, one.sop_instance_uid, self._pieces(data_set))
            status = f"{number:04X}"
        finally:
            kind = self._kind(one)
            seconds = time.monotonic() - began
            self._journal.note(one.sop_instance_uid, one.digest, status, f"{word}:{kind}", seconds)
        if word != NEW:
            return True
        if status == SUCCESS:
            self._next = count_of(one.sop_instance_uid) + 1
        return status == SUCCESS

    def _kind(self, one: Instance) -> str:
        if one.sources:
            return RESULT
        return one.modality if self._order.hospital else ORIGINAL

    def _pieces(self, data_set: bytes) -> Iterator[bytes]:
        half = len(data_set) // 2
        yield data_set[:half]
        if self._dies or self._aborts:
            yield FILLER  # pushes the first half out of our buffers, onto the wire
            if self._dies:
                os.kill(os.getpid(), signal.SIGKILL)
            self._aborts = False
            raise _Aborted
        yield data_set[half:]


def _is_done(status: str, word: str) -> bool:
    return status == SUCCESS and word.startswith(f"{NEW}:")


def main() -> int:
    """Run the sender that the first argument describes."""
    sender = Sender(SenderOptions(**json.loads(sys.argv[1])))
    sender.listen()
    sender.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
