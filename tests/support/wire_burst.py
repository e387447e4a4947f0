"""Open several associations, then send instances on all of them at full rate, as a program.

`python -m support.wire_burst PORT CALLED ASSOCIATIONS COUNT BYTES`

Each association sends one study, COUNT / ASSOCIATIONS instances of BYTES pixels. It is released at once after
its last instance, because a peer with few threads would wait for an idle association. The program prints the
instances per second, from the first request to the last response.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from gateway.dicom.association import Association, PeerAddress
from gateway.dicom.requestor import associate
from support.wire_data import made
from support.wire_senders import CALLING, CONTEXT

Encoded = list[tuple[str, list[bytes]]]
"""SOP Instance UIDs and data sets; all data sets share the bytes of the pixels, to save memory."""


def main() -> None:
    """Run the program that the module describes."""
    port, called, associations, count, size = sys.argv[1:]
    number, pixels = int(associations), os.urandom(int(size))
    studies: list[Encoded] = [
        [
            (one.sop_instance_uid, [one.data_set()[: -len(pixels)], pixels])
            for one in made(int(count) // number, pixels)
        ]
        for _ in range(number)
    ]
    peer = PeerAddress("127.0.0.1", int(port), called, timeout_seconds=60, connect_timeout_seconds=10)
    opened = [associate(peer, calling_ae_title=CALLING, contexts=[CONTEXT]) for _ in studies]
    began = time.monotonic()
    with ThreadPoolExecutor(number) as pool:
        ended = max(pool.map(_send, opened, studies))
    print(sum(map(len, studies)) / (ended - began))  # noqa: T201  the result


def _send(association: Association, study: Encoded) -> float:
    """Send a study; return when its last response came, in monotonic seconds."""
    with association:
        for uid, data_set in study:
            status, comment = association.store(CONTEXT, uid, data_set)
            assert status == 0, comment
        return time.monotonic()


if __name__ == "__main__":
    main()
