"""Wake the consumers of a queue after a message was committed, without delaying the thread that committed it.

A NOTIFY inside a transaction takes a lock that serialises the commits of all connections. So a thread with a
connection of its own sends it after the commit, one for many messages. Consumers also look once a second by
themselves: if the process dies, or PostgreSQL is away, a message waits up to that second longer.
"""

import os
import threading
from collections.abc import Iterable

from gateway.database.connection import Connection, connect
from gateway.database.session import DedicatedSession
from gateway.database.tables import messages
from gateway.errors import DatabaseUnavailableError

GAP_SECONDS = 0.02
"""Least time between two NOTIFYs. The first is sent at once; those asked for within the gap are sent as one.
A shorter gap would slow down the receiving threads, to wake consumers that are awake already."""

DEADLINE_SECONDS = 5.0
"""For one NOTIFY. It must exceed what a busy PostgreSQL takes; only this thread waits."""

RETRY_SECONDS = 1.0
"""Between attempts to connect. Wakes in between are dropped: consumers look once a second anyway."""


def wake_once(dsn: str, queues: Iterable[str]) -> None:
    """Wake the consumers of these queues after a commit; for a command, which keeps no connection for it."""
    wakeup = Wakeup(dsn)
    for queue in queues:
        wakeup.wake(queue)
    wakeup.close()


class Wakeup:
    """Sends coalesced NOTIFYs. Safe across threads; after a fork the child gets a thread of its own."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._asked = threading.Event()
        self._closed = threading.Event()
        self._queues: set[str] = set()
        self._thread: threading.Thread | None = None

    def wake(self, queue: str) -> None:
        """Make the consumers of `queue` look for messages, usually in milliseconds. Never block or raise."""
        if self._process != os.getpid():
            self._reset()
        if queue in self._queues:
            return  # a NOTIFY is still to be sent, and the consumers that it wakes see this message
        with self._lock:
            if self._thread is None and not self._closed.is_set():
                thread = threading.Thread(target=self._run, name="wakeup", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return  # out of threads: the consumers look each second, and the next wake tries again
                self._thread = thread
            self._queues.add(queue)
        self._asked.set()

    def close(self) -> None:
        """Send what is still to be sent and close the connection; wait at most a second."""
        self._closed.set()
        self._asked.set()
        thread = self._thread
        if thread is not None and self._process == os.getpid():
            thread.join(1.0)

    def _run(self) -> None:
        connection: Connection | None = None
        while not (self._closed.is_set() and not self._queues):
            self._asked.wait()
            self._asked.clear()
            with self._lock:
                queues, self._queues = self._queues, set()
            if not queues:
                continue
            connection = self._send(connection, queues)
            self._closed.wait(GAP_SECONDS if connection else RETRY_SECONDS)
        if connection is not None:
            connection.close()

    def _send(self, connection: Connection | None, queues: set[str]) -> Connection | None:
        had = connection is not None
        try:
            if connection is None:
                connection = connect(
                    self._dsn, application_name="mini-pacs wakeup", deadline_seconds=DEADLINE_SECONDS
                )
                # a NOTIFY writes nothing that a crash could lose
                messages.relax_durability(DedicatedSession(connection))
            messages.notify(DedicatedSession(connection), sorted(queues))
        except DatabaseUnavailableError:
            # Safe: the messages are committed, and the consumers look once a second. A connection that was
            # closed while it was idle is replaced once; if that fails, too, PostgreSQL is away.
            if connection is not None:
                connection.close()
            return self._send(None, queues) if had else None
        return connection
