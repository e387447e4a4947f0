"""A wake is a courtesy: what was committed stands, whatever becomes of it."""

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


def test_a_wake_raises_nothing_where_no_thread_is_to_be_had() -> None:
    """It comes after a commit: the answer must not be lost with it. The next wake starts the thread."""
    wakeup = Wakeup("host=/nowhere")
    try:
        with no_thread_to_be_had():
            wakeup.wake("pacs")
        wakeup.wake("pacs")
        wait_until(lambda: "wakeup" in {thread.name for thread in threading.enumerate()}, 30, "the thread")
    finally:
        wakeup.close()
