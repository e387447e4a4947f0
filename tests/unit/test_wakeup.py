"""A wake-up never fails its caller: the commit before it stays valid."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from support.waiting import wait_until

from gateway.database.wakeup import Wakeup


@contextmanager
def no_thread_to_be_had() -> Iterator[None]:
    """As at a limit of the machine: no stack of that size fits anywhere."""
    before = threading.stack_size(1 << 47)
    try:
        yield
    finally:
        threading.stack_size(before)


def test_a_wake_up_raises_nothing_without_a_free_thread() -> None:
    """It follows a commit, whose answer must not be lost. The next wake-up starts the thread."""
    wakeup = Wakeup("host=/nowhere")
    try:
        with no_thread_to_be_had():
            wakeup.wake("pacs")
        wakeup.wake("pacs")
        wait_until(lambda: "wakeup" in {thread.name for thread in threading.enumerate()}, 30, "the thread")
    finally:
        wakeup.close()
