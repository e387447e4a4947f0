"""Claim messages of one queue from PostgreSQL, and hand them to the threads of Dramatiq.

Replaces the consumer of dramatiq-pg, which takes one advisory lock per message, reads the whole queue into
memory, and stops for good at about 15,000 waiting messages. Dramatiq calls `next`, which returns a claimed
message, or None after at most a second. One claim takes as many messages as there are idle threads; while
messages end quickly, it takes as many as there are threads (`actors.queue.prefetch`). A message is handed out
when a thread is idle. After a claim that took all due messages, the next claim waits for a notification.

The claim takes the deliveries of the messages, too, for a queue with `terms`. Each message holds its delivery
until its actor takes it (`InFlightMessage.take_delivery`). One that was not taken is released when its
message ends.

If the process dies, the claimed messages name a consumer id without a lock; a reaper frees them
(`actors.queue.reaper`). Their deliveries name the same id, so another process may claim them, too.
"""

import os
import signal
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from time import monotonic, time

from dramatiq.broker import Consumer

from actors.queue.ack import AckWriter
from actors.queue.capacity import Capacity
from actors.queue.claim_floor import ClaimFloor
from actors.queue.document import NoMessageError
from actors.queue.event import PollableEvent
from actors.queue.in_flight import Ending, EndingKind, InFlightMessage, InFlightMessages
from actors.queue.liveness import CONNECT_AGAIN_SECONDS, Liveness
from actors.queue.pooler import PoolerError
from actors.queue.prefetch import STALE_SECONDS, Prefetch
from actors.queue.unstarted import dead_letter, give_back, postpone, release
from gateway import log
from gateway.database.tables.deliveries import DeliveryClaim
from gateway.database.tables.messages import NO_FLOORS, Claimed, MessageClaim, Run, Terms
from gateway.errors import DatabaseUnavailableError
from gateway.log import Stage

POLL_SECONDS = 1.0
"""The longest wait for a notification, which may be lost. Dramatiq waits as long for the consumer to stop."""


class EdgeConsumer(Consumer):
    """The consumer of one queue in one process. One thread calls it; the actor threads call `ack`, `nack`.

    `has_share`: its queue is that of one target among several, which share the threads of the process.
    `terms` returns how the deliveries of its messages are claimed; None if they are not claimed with them.
    """

    def __init__(
        self,
        queue_name: str,
        *,
        liveness: Liveness,
        capacity: Capacity,
        in_flight: InFlightMessages,
        acks: AckWriter,
        has_share: bool = False,
        terms: Callable[[], Terms | None] = lambda: None,
    ) -> None:
        self._queue_name = queue_name
        self._liveness = liveness
        self._capacity = capacity
        self._in_flight = in_flight
        self._acks = acks
        self._event = PollableEvent()
        self._ready: deque[InFlightMessage] = deque()
        self._floor = ClaimFloor()
        self._prefetch = Prefetch()
        self._terms = terms
        self._look_again_at = 0.0
        """Before this time nothing is due, unless the event is set."""
        self._away = False
        if has_share:
            capacity.share(self._event)
        liveness.serve(queue_name, self._event)

    def __next__(self) -> InFlightMessage | None:
        """Return a claimed message, or None after at most POLL_SECONDS."""
        if not self._ready:
            try:
                self._claim()
            except DatabaseUnavailableError as error:
                self._log_away(error)
                self._event.wait(CONNECT_AGAIN_SECONDS)
            except PoolerError as error:
                # The pooler could not be reached when this process started. The supervisor starts the process
                # again, and the start is refused.
                log.write(Stage.QUEUE, "refused_at_start", level="error", error=str(error))
                os.kill(os.getpid(), signal.SIGTERM)
        return self._hand_out()

    def ack(self, message: InFlightMessage) -> None:
        """Write the ending of a message, as its middleware left it. Called by the actor threads.

        A message that leaves an outcome keeps its slot until that is recorded. So a process that dies has
        sent no more instances without a record than it has threads.
        """
        if not self._in_flight.remove(message):
            return
        give_back = partial(self._capacity.give_back, self._event, message.slots)
        self._prefetch.note(monotonic() - message.handed_out_at)
        if message.settling is None:
            self._acks.settle(message)
            give_back()
        else:
            message.when_written = give_back
            self._acks.settle(message)

    def nack(self, message: InFlightMessage) -> None:
        """Make a message dead that middleware failed, or for which there is no actor."""
        if message.ending.kind is not EndingKind.DEAD:
            message.ending = Ending(EndingKind.DEAD, f"no actor {message.actor} in this version, or failed")
        self.ack(message)

    def requeue(self, messages: Iterable[InFlightMessage]) -> None:
        """Make messages claimable again that no thread has started. Called at the end of the process."""
        returned: dict[int, list[Run]] = defaultdict(list)
        held: list[DeliveryClaim] = []
        slots = 0
        for message in messages:
            if self._in_flight.remove(message):
                returned[message.consumer].append(message.run)
                held += message.deliveries_to_release()
                slots += message.slots
        if returned:
            self._look_again_at = 0.0
            give_back(self._liveness, returned.items(), held)
        self._capacity.give_back(self._event, slots)

    def close(self) -> None:
        """Give back the messages that were claimed and not handed out; stop consuming the queue."""
        self.requeue(list(self._ready))
        self._ready.clear()
        self._liveness.leave(self._queue_name)
        self._capacity.forget(self._event)
        self._event.close()

    def _hand_out(self) -> InFlightMessage | None:
        if not self._ready:
            return None
        message = self._ready[0]
        if message.slots == 0:
            message.slots = self._take_slot()
            if message.slots == 0:
                # No thread became idle here; another process may have an idle one.
                self._prefetch.stall()
                self.requeue(list(self._ready))
                self._ready.clear()
                return None
        message.handed_out_at = monotonic()
        return self._ready.popleft()

    def _take_slot(self) -> int:
        """Wait STALE_SECONDS for a slot; return 1, or 0 if there is none."""
        stale_at = monotonic() + STALE_SECONDS
        while (slot := self._capacity.take(self._event, most=1)) == 0:
            left = stale_at - monotonic()
            if left <= 0:
                return 0
            self._event.wait(left)
        return slot

    def _claim(self) -> None:
        """Claim as many messages as fit, or wait until something can be claimed."""
        self._liveness.upkeep()
        exclusive = self._liveness.has_exclusive(self._queue_name)
        left = self._look_again_at - monotonic()
        if left > 0 and not exclusive:
            self._look_again_at = 0.0
            self._liveness.wait(self._event, left)
            return
        take = self._capacity.take_exclusively if exclusive else self._capacity.take
        slots = take(self._event)
        if slots == 0 and (exclusive or not self._prefetch.is_quick):
            # The event is set when a message ends. The wait also ends if PostgreSQL closes the connection:
            # a busy process must connect again before the others free its messages.
            self._liveness.wait(self._event, POLL_SECONDS)
            return
        wanted = self._capacity.threads if self._prefetch.is_quick else slots
        floors = self._floor.floors()
        used = 0
        began = monotonic()
        try:
            claim, consumer = self._liveness.claim(
                self._queue_name, self._event, wanted, slots=slots, exclusive=exclusive, floors=floors,
                terms=self._terms(),
            )  # fmt: skip
            self._floor.advance(claim.messages, wanted=wanted)
            for claimed in claim.messages:
                held = claim.held.get(claimed.message_id)
                message = self._hold(claimed, consumer, slots if exclusive else min(1, slots - used), held)
                if message is None:
                    continue
                message.claimed_at = began
                self._ready.append(message)
                used += message.slots
        finally:
            self._capacity.give_back(self._event, slots - used)
        if self._away:
            self._away = False
            log.write(Stage.QUEUE, "database_back", detail=f"queue {self._queue_name} is consumed again")
        if not exclusive:
            self._wait_if_none_is_due(claim, is_from_front=floors == list(NO_FLOORS))

    def _wait_if_none_is_due(self, claim: MessageClaim, *, is_from_front: bool) -> None:
        """Wait if nothing was claimed; do not claim again for the time in which nothing is due.

        A message before the floors may be due, so that a claim from there says nothing about the queue.
        """
        seconds = POLL_SECONDS if claim.next_due_seconds is None else claim.next_due_seconds
        seconds = min(max(seconds, 0.0), POLL_SECONDS)
        if not claim.messages:
            self._liveness.wait(self._event, seconds or POLL_SECONDS)
        elif is_from_front:
            self._look_again_at = monotonic() + seconds

    def _hold(
        self, claimed: Claimed, consumer: int, slots: int, held: DeliveryClaim | None
    ) -> InFlightMessage | None:
        """Return the claimed message as one in flight; None if it cannot be run, or not yet."""
        try:
            message = InFlightMessage(
                claimed, queue_name=self._queue_name, consumer=consumer, slots=slots, held=held
            )
        except NoMessageError as error:
            # If Dramatiq got it, it would restart the consumer or end a thread, at each claim.
            release(self._liveness, held)
            dead_letter(self._liveness, claimed.run, consumer, str(error))
            return None
        if message.not_before is not None and (wait := message.not_before - time()) > 0:
            # If Dramatiq got it, it would wait in memory and keep its slot until then.
            release(self._liveness, held)
            postpone(self._liveness, claimed.run, consumer, timedelta(seconds=wait))
            return None
        self._in_flight.add(message)
        return message

    def _log_away(self, error: DatabaseUnavailableError) -> None:
        if not self._away:
            self._away = True
            log.write(Stage.QUEUE, "database_away", level="warning", error=str(error))
