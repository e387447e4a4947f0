"""`python -m proof.chaos.outage_sender ORDER`: one modality of the long outage, until SIGTERM.

It sends studies of STUDY_SIZE instances, at its rate or as fast as the edge answers, and sends again what was
not answered Success. Each answer, with its time, goes to its journal.
"""

import json
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random

from support.synthetic_instances import CT, MR, Instance

from gateway.dicom.association import Association, PeerAddress
from gateway.dicom.requestor import associate
from gateway.errors import PeerError
from proof.chaos.journal import BROKEN, NOT_OPENED, SUCCESS, Journal
from proof.chaos.sender import CONNECT_SECONDS, NEW, PAUSE_SECONDS, SenderOptions
from proof.chaos.sent_instances import CT_BYTES, SMALL_BYTES, Number, uid

STUDY_SIZE = 200
TIMEOUT_SECONDS = 60.0
"""Long, so that a slow answer is measured and not cut off."""
CT_SENDERS = 2
PACS_ONLY = "pacs"
"""Follows the colon in the word of a line: the instance is owed to the PACS only."""


class OutageSender:
    """Sends at `rate` a second, or as fast as it is answered where `rate` is 0.

    The first CT_SENDERS senders send CT, the others small instances.
    """

    def __init__(self, order: SenderOptions) -> None:
        self._order = order
        self._journal = Journal(Path(order.journal))
        self._content = Random(f"{order.seed}:{order.sender}")  # noqa: S311  to be repeatable
        self._next = 0
        self.stopping = False

    def run(self) -> None:
        """Send until it is stopped."""
        order = self._order
        peer = PeerAddress("127.0.0.1", order.port, order.called_ae_title, TIMEOUT_SECONDS, CONNECT_SECONDS)
        while not self.stopping:
            began, is_open = time.monotonic(), False
            try:
                contexts = [self._instance(0).context]
                with associate(peer, calling_ae_title=order.calling_ae_title, contexts=contexts) as open_one:
                    is_open = True
                    self._send_study(open_one)
            except PeerError:
                if not is_open:
                    self._journal.note("-", "-", NOT_OPENED, "association", time.monotonic() - began)
                time.sleep(PAUSE_SECONDS)

    def _send_study(self, association: Association) -> None:
        end = (self._next // STUDY_SIZE + 1) * STUDY_SIZE
        one = self._instance(self._next)
        while self._next < end and not self.stopping:
            self._wait()
            if self._send(association, one):
                self._next += 1
                one = self._instance(self._next)

    def _wait(self) -> None:
        order = self._order
        if order.rate:
            time.sleep(max(0.0, order.begun + self._next / order.rate - time.time()))

    def _send(self, association: Association, one: Instance) -> bool:
        status, began = BROKEN, time.monotonic()
        try:
            number, _ = association.store(one.context, one.sop_instance_uid, [one.data_set()])
            status = f"{number:04X}"
        finally:
            seconds = time.monotonic() - began
            self._journal.note(one.sop_instance_uid, one.digest, status, f"{NEW}:{PACS_ONLY}", seconds)
        return status == SUCCESS

    def _instance(self, count: int) -> Instance:
        order = self._order
        number = uid(Number(order.seed, order.sender, count))
        study = f"{uid(Number(order.seed, order.sender, 9))}.{count // STUDY_SIZE}"
        blank = Instance(number, study, f"{study}.1", MR, modality="MR")
        if order.sender < CT_SENDERS:
            return replace(blank, sop_class_uid=CT, modality="CT", payload=self._content.randbytes(CT_BYTES))
        return replace(
            blank,
            payload=self._content.randbytes(
                2 * self._content.randrange(*(size // 2 for size in SMALL_BYTES))
            ),
        )


def main() -> int:
    """Run the sender that the first argument describes."""
    sender = OutageSender(SenderOptions(**json.loads(sys.argv[1])))
    signal.signal(signal.SIGTERM, lambda *_: setattr(sender, "stopping", True))
    sender.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
