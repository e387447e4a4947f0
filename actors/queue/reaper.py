"""Looks for dead consumers and frees what they held.

Dead is whose lock was missed twice, RECONNECT_GRACE_SECONDS apart: the connection of a living one may have
been cut a moment ago, by an operator or by a crash of PostgreSQL, and it comes back and keeps what it runs.
What was missed is remembered here and not in the database: where our own connection was lost, everybody's may
have been, and everybody gets the whole grace.

If the process dies here, others look.
"""

from time import monotonic

from gateway import log
from gateway.database.session import Session
from gateway.database.tables import consumers
from gateway.log import Stage

LOOK_SECONDS = 2.0
"""Between looks for dead consumers. With the grace it bounds how long the work of the dead waits."""

RECONNECT_GRACE_SECONDS = 1.5
"""Must exceed the time in which a living consumer notices that its connection is gone (at once, or a quarter
of a second where it waits for a thread), connects again (at the second attempt), and adopts what it runs."""


class Reaper:
    """What one process knows of the others' locks. Used under its connection's mutex."""

    def __init__(self) -> None:
        self._missed_since: dict[int, float] = {}
        self._next_look = 0.0

    @property
    def seconds_to_look(self) -> float:
        """Until the next look is due; 0 or less: now."""
        return self._next_look - monotonic()

    def check_now(self) -> None:
        """The next look is due at once."""
        self._next_look = 0.0

    def begin(self, session: Session) -> None:
        """A connection is new: who is missed from here on has the whole grace, whatever was seen before."""
        now = monotonic()
        self._missed_since = dict.fromkeys(consumers.missing(session), now)
        self.check_now()

    def look(self, session: Session) -> None:
        """What consumers held that are missed for longer than the grace is claimable, or dead."""
        now = monotonic()
        since = {one: self._missed_since.get(one, now) for one in consumers.missing(session)}
        dead = [one for one, at in since.items() if now - at >= RECONNECT_GRACE_SECONDS]
        self._missed_since = {one: at for one, at in since.items() if one not in dead}
        over = min(self._missed_since.values(), default=now) + RECONNECT_GRACE_SECONDS
        self._next_look = min(over, now + LOOK_SECONDS) if self._missed_since else now + LOOK_SECONDS
        for one in consumers.reap(session, dead) if dead else []:
            if one.stopping:
                log.write(
                    Stage.QUEUE,
                    "consumer_cut_off",
                    level="warning",
                    count=one.freed,
                    detail=f"process {one.pid} on {one.host} was killed while it was stopping: "
                    "what it still ran waits again, and counts no death",
                )
                continue
            log.write(
                Stage.QUEUE,
                "consumer_died",
                level="error" if one.buried else "warning",
                count=one.freed,
                detail=f"process {one.pid} on {one.host} is gone; {one.buried} of its messages are dead",
            )
