"""Look for actor processes that are gone, and free their messages: any process can claim them again.

A process is gone when two checks, RECONNECT_GRACE_SECONDS apart, find that nobody holds its lock. One check
is not enough. An operator or a crash of PostgreSQL may have cut the connection of a living process, which
comes back and keeps the messages that it holds (`actors.queue.adoption`).

The reaper frees messages. Their deliveries stay in flight, except those of a message that is dead now. The
process that runs the message next can claim the delivery, because the lock of the process that had claimed it
is missing.

Each process remembers in memory which locks are missing, and since when. If it lost its own connection, the
other processes may have lost theirs, too, so every process gets the whole grace again.

If the process dies, the reapers of the other processes continue.
"""

from time import monotonic

from gateway import log
from gateway.database.session import Session
from gateway.database.tables import consumers
from gateway.log import Stage

CHECK_SECONDS = 2.0
"""Between checks. Messages of a process that is gone wait for this time and the grace, at most."""

RECONNECT_GRACE_SECONDS = 1.5
"""Must exceed the time that a living process needs to keep its messages:

    notice that its connection is lost   at once; after 0.25 s if its consumer waits for a thread
                                         (STALE_SECONDS)
    connect again                        0.3 s, if the second attempt succeeds (CONNECT_AGAIN_SECONDS)
    register and adopt its messages      a few statements
"""


class Reaper:
    """The missing locks, as one process has seen them. Used under the mutex of its connection."""

    def __init__(self) -> None:
        self._missed_since: dict[int, float] = {}
        self._next_check = 0.0

    @property
    def seconds_to_check(self) -> float:
        """Seconds until the next check; 0 or less means now."""
        return self._next_check - monotonic()

    def check_now(self) -> None:
        """Make the next check due at once."""
        self._next_check = 0.0

    def begin(self, session: Session) -> None:
        """Start again on a new connection: every process whose lock is missing gets the whole grace."""
        now = monotonic()
        self._missed_since = dict.fromkeys(consumers.without_lock(session), now)
        self.check_now()

    def check(self, session: Session) -> None:
        """Free the messages of processes whose locks are missing for longer than the grace."""
        now = monotonic()
        since = {one: self._missed_since.get(one, now) for one in consumers.without_lock(session)}
        gone = [one for one, at in since.items() if now - at >= RECONNECT_GRACE_SECONDS]
        self._missed_since = {one: at for one, at in since.items() if one not in gone}
        over = min(self._missed_since.values(), default=now) + RECONNECT_GRACE_SECONDS
        self._next_check = min(over, now + CHECK_SECONDS) if self._missed_since else now + CHECK_SECONDS
        for one in consumers.reap(session, gone) if gone else []:
            if one.stopping:
                log.write(
                    Stage.QUEUE,
                    "consumer_cut_off",
                    level="warning",
                    count=one.freed,
                    detail=f"process {one.pid} on {one.host} was killed while it was stopping: "
                    "its messages wait again, and count no death",
                )
                continue
            log.write(
                Stage.QUEUE,
                "consumer_died",
                level="error" if one.dead_lettered else "warning",
                count=one.freed,
                detail=f"process {one.pid} on {one.host} is gone; "
                f"{one.dead_lettered} of its messages are dead",
            )
