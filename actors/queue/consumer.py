"""Takes messages of one queue out of PostgreSQL and hands them to Dramatiq's threads.

Stands where dramatiq-pg's consumer stood, which holds one advisory lock per message, scans the whole queue
into memory, and jams for good at about 15,000 waiting messages. Each `next` returns a claimed message, or
None after at most a second, as Dramatiq's thread wants it. A claim is as large as there are idle threads, or,
while messages end quickly, as there are threads (`actors.queue.prefetch`). Each is handed out when a thread
is idle.

If the process dies here, what was claimed names a consumer whose lock is gone (see `actors.queue.liveness`).
"""

import os
import signal
from collections import defaultdict, deque
from collections.abc import Iterable
from datetime import timedelta
from time import monotonic, time

from dramatiq.broker import Consumer

from actors.queue.ack import AckWriter
from actors.queue.capacity import Capacity, PollableEvent
from actors.queue.claim_floor import ClaimFloor
from actors.queue.document import NoMessageError
from actors.queue.in_flight import Ending, EndingKind, InFlightMessage, InFlightMessages
from actors.queue.liveness import CONNECT_AGAIN_SECONDS, Liveness
from actors.queue.pooler import PoolerError
from actors.queue.prefetch import STALE_SECONDS, Prefetch
from gateway import log
from gateway.database.tables.messages import Claimed, Run
from gateway.errors import DatabaseUnavailableError
from gateway.log import Stage

POLL_SECONDS = 1.0
"""The longest wait for a NOTIFY, which may be lost; also how long Dramatiq waits for us to stop."""


class EdgeConsumer(Consumer):
    """The consumer of one queue in one process."""

    def __init__(
        self,
        queue_name: str,
        *,
        liveness: Liveness,
        capacity: Capacity,
        held: InFlightMessages,
        acks: AckWriter,
    ) -> None:
        self._queue_name = queue_name
        self._liveness = liveness
        self._capacity = capacity
        self._held = held
        self._acks = acks
        self._event = PollableEvent()
        self._ready: deque[InFlightMessage] = deque()
        self._front = ClaimFloor()
        self._pace = Prefetch()
        self._away = False
        liveness.serve(queue_name, self._event)

    def __next__(self) -> InFlightMessage | None:
        """A claimed message, or None after at most POLL_SECONDS."""
        if not self._ready:
            try:
                self._claim()
            except DatabaseUnavailableError as error:
                self._say_away(error)
                self._event.wait(CONNECT_AGAIN_SECONDS)
            except PoolerError as error:
                # It was not there to be asked at our start. The supervisor starts us anew, and is refused.
                log.write(Stage.QUEUE, "refused_at_start", level="error", error=str(error))
                os.kill(os.getpid(), signal.SIGTERM)
        return self._hand_out()

    def ack(self, message: InFlightMessage) -> None:
        """Called by an actor thread when it is done with a message; its ending is in `message.ending`."""
        if self._held.release(message):
            self._acks.settle(message)
            self._capacity.give(message.seats)
            self._pace.note(monotonic() - message.handed_out_at)

    def nack(self, message: InFlightMessage) -> None:
        """Called when a message was failed, by middleware or because no actor has its name: it is dead."""
        if message.ending.verdict is not EndingKind.DEAD:
            message.ending = Ending(EndingKind.DEAD, f"no actor {message.actor} in this version, or failed")
        self.ack(message)

    def requeue(self, messages: Iterable[InFlightMessage]) -> None:
        """Called at the end of the process with what no thread started: it waits again at once."""
        returned: dict[int, list[Run]] = defaultdict(list)
        seats = 0
        for message in messages:
            if self._held.release(message):
                returned[message.consumer].append(message.run)
                seats += message.seats
        if returned:
            self._liveness.give_back(returned.items())
        self._capacity.give(seats)

    def close(self) -> None:
        """What was claimed and not handed out waits again; the queue is not served any more."""
        self.requeue(list(self._ready))
        self._ready.clear()
        self._liveness.leave(self._queue_name)
        self._capacity.leave(self._event)
        self._event.close()

    def _hand_out(self) -> InFlightMessage | None:
        if not self._ready:
            return None
        message = self._ready[0]
        if message.seats == 0:
            message.seats = self._seat()
            if message.seats == 0:
                # Every thread hangs: what waits here is for whoever has an idle one.
                self._pace.stall()
                self.requeue(list(self._ready))
                self._ready.clear()
                return None
        message.handed_out_at = monotonic()
        return self._ready.popleft()

    def _seat(self) -> int:
        stale_at = monotonic() + STALE_SECONDS
        while (seat := self._capacity.take(self._event, most=1)) == 0:
            left = stale_at - monotonic()
            if left <= 0:
                return 0
            self._event.wait(left)
        return seat

    def _claim(self) -> None:
        self._liveness.upkeep()
        alone = self._liveness.someone_waits_alone(self._queue_name)
        seats = self._capacity.take_exclusively(self._event) if alone else self._capacity.take(self._event)
        if seats == 0 and (alone or not self._pace.is_quick):
            # Rung by the next message that ends. A lost connection must be noticed here, too: all threads
            # busy is what load looks like, and the neighbours take us for dead soon.
            self._liveness.wait(self._event, POLL_SECONDS)
            return
        wanted = self._capacity.threads if self._pace.is_quick else seats
        used = 0
        try:
            claim, consumer = self._liveness.claim(
                self._queue_name, wanted, seats=seats, alone=alone, floors=self._front.floors()
            )
            self._front.advance(claim.messages, wanted=wanted)
            for claimed in claim.messages:
                message = self._hold(claimed, consumer, seats if alone else min(1, seats - used))
                if message is None:
                    continue
                self._ready.append(message)
                used += message.seats
        finally:
            self._capacity.give(seats - used)
        if self._away:
            self._away = False
            log.write(Stage.QUEUE, "database_back", detail=f"queue {self._queue_name} is consumed again")
        if not claim.messages and not alone:
            due = POLL_SECONDS if claim.next_due_seconds is None else claim.next_due_seconds
            self._liveness.wait(self._event, min(max(due, 0.0), POLL_SECONDS))

    def _hold(self, claimed: Claimed, consumer: int, seats: int) -> InFlightMessage | None:
        try:
            message = InFlightMessage(claimed, queue_name=self._queue_name, consumer=consumer, seats=seats)
        except NoMessageError as error:
            # Dramatiq would restart its consumer or lose a thread over it, again and again.
            self._liveness.dead_letter(claimed.run, consumer, str(error))
            return None
        if message.not_before is not None and (wait := message.not_before - time()) > 0:
            # Handed out, it would stand in Dramatiq's memory and keep its seat until then.
            self._liveness.put_off(claimed.run, consumer, timedelta(seconds=wait))
            return None
        self._held.add(message)
        return message

    def _say_away(self, error: DatabaseUnavailableError) -> None:
        if not self._away:
            self._away = True
            log.write(Stage.QUEUE, "database_away", level="warning", error=str(error))
