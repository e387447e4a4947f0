"""Send instances at full rate on associations that are open before, as a program.

`python -m support.wire_burst PORT CALLED ASSOCIATIONS COUNT BYTES`

Each association sends one study, COUNT / ASSOCIATIONS instances of BYTES pixels. It is released at once after
its last instance: a peer that serves many associations with few threads would wait for it. The program prints
the instances per second, from the first request to the last response.
"""

import os
import sys
import threading
import time

from gateway.dicom.association import PeerAddress
from gateway.dicom.requestor import associate
from support.synthetic_instances import Instance
from support.wire_data import made
from support.wire_senders import CALLING, CONTEXT


def main() -> None:
    """Run the program that the module describes."""
    port, called, associations, count, size = sys.argv[1:]
    payload = os.urandom(int(size))
    studies = [made(int(count) // int(associations), payload) for _ in range(int(associations))]
    peer = PeerAddress("127.0.0.1", int(port), called, timeout_seconds=60, connect_timeout_seconds=10)
    began: list[float] = []
    ended: list[float] = []
    barrier = threading.Barrier(int(associations), action=lambda: began.append(time.monotonic()))

    def send(study: list[Instance]) -> None:
        # The payload is shared, so that many instances need little memory.
        encoded = [(one.sop_instance_uid, [one.data_set()[: -len(payload)], payload]) for one in study]
        with associate(peer, calling_ae_title=CALLING, contexts=[CONTEXT]) as association:
            barrier.wait(60)
            for uid, data_set in encoded:
                status, comment = association.store(CONTEXT, uid, data_set)
                assert status == 0, comment
            ended.append(time.monotonic())

    threads = [threading.Thread(target=send, args=(study,)) for study in studies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == len(studies), "an association failed"
    print(sum(map(len, studies)) / (max(ended) - began[0]))  # noqa: T201  the result


if __name__ == "__main__":
    main()
