"""Send small instances at full rate, as a program: `python -m support.wire_load PORT SECONDS ASSOCIATIONS`.

At the end it prints how many were answered Success. It runs beside the edge on the same machine, so its own
work limits the rate, too.
"""

import sys
import threading
import time

from gateway.dicom.association import PeerAddress
from gateway.dicom.requestor import associate
from support.wire_data import SMALL_BYTES, made
from support.wire_senders import CALLING, CONTEXT

AT_ONCE = 500
"""How many instances of one study are encoded before they are sent."""


def send(port: int, until: float, counts: list[int]) -> None:
    """Send on one association until that time, and append how many were answered."""
    peer = PeerAddress("127.0.0.1", port, "MINI_EDGE", timeout_seconds=30, connect_timeout_seconds=10)
    count = 0
    with associate(peer, calling_ae_title=CALLING, contexts=[CONTEXT]) as association:
        while time.monotonic() < until:
            for instance in made(AT_ONCE, bytes(SMALL_BYTES)):
                status, comment = association.store(CONTEXT, instance.sop_instance_uid, [instance.data_set()])
                assert status == 0, comment
                count += 1
    counts.append(count)


def main() -> None:
    """Run the program that the module describes."""
    port, seconds, associations = map(int, sys.argv[1:])
    until = time.monotonic() + seconds
    counts: list[int] = []
    threads = [threading.Thread(target=send, args=(port, until, counts)) for _ in range(associations)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counts) == associations, "an association failed"
    print(sum(counts))  # noqa: T201  the result


if __name__ == "__main__":
    main()
