"""Send small instances at a fixed rate, as a program.

`python -m support.wire_open_loop PORT CALLED RATE SECONDS ASSOCIATIONS FILE`

Each instance has an intended time, whether or not the ones before it were answered. A receiver that stalls is
charged for all instances that should have been sent meanwhile (no coordinated omission). FILE gets a line
`<SOP Instance UID> <intended> <answered>` for each, in monotonic seconds of this machine.
"""

import itertools
import sys
import threading
import time
from pathlib import Path

from gateway.dicom.association import PeerAddress
from gateway.dicom.requestor import associate
from support.wire_data import SMALL_BYTES, made
from support.wire_senders import CALLING, CONTEXT

LEAD_SECONDS = 0.5
"""From the last association that is open to the first intended time."""


def main() -> None:
    """Run the program that the module describes."""
    port, called, rate, seconds, associations, path = sys.argv[1:]
    instances = made(int(float(rate) * float(seconds)), bytes(SMALL_BYTES))
    encoded = [instance.data_set() for instance in instances]
    peer = PeerAddress("127.0.0.1", int(port), called, timeout_seconds=60, connect_timeout_seconds=10)
    numbers = itertools.count()
    lines: list[str] = []
    begins = [0.0]

    def begin() -> None:
        begins[0] = time.monotonic() + LEAD_SECONDS

    barrier = threading.Barrier(int(associations), action=begin)

    def send() -> None:
        with associate(peer, calling_ae_title=CALLING, contexts=[CONTEXT]) as association:
            barrier.wait(30)
            while (number := next(numbers)) < len(instances):
                intended = begins[0] + number / float(rate)
                if (wait := intended - time.monotonic()) > 0:
                    time.sleep(wait)  # the offered load itself
                uid = instances[number].sop_instance_uid
                status, comment = association.store(CONTEXT, uid, [encoded[number]])
                assert status == 0, comment
                lines.append(f"{uid} {intended:.6f} {time.monotonic():.6f}\n")

    threads = [threading.Thread(target=send) for _ in range(int(associations))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines) == len(instances), "an association failed"
    Path(path).write_text("".join(lines), encoding="ascii")


if __name__ == "__main__":
    main()
