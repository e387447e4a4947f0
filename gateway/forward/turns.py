"""Decide which claimed instance may be sent to the PACS now, so that bad ones do not hold up the others.

Some instances make a PACS hang: it accepts the data set and never answers. Such a send blocks a thread and an
association for the whole `timeout_s`. A study with many such instances could block all of them, and every
other study would wait. Three rules limit how many sends one study, or one sender, can block:

    new study     until this process has delivered one instance of the study, it sends one of them at a time
    other study   it may use all associations but one
    suspects      instances at which the association broke, the others of their study and, if three studies of
                  one sender failed, all instances of that sender. All processes together send one at a time
                  (functions/is_suspect.sql, functions/take_turn.sql)

An instance that may not be sent now waits in its thread while other instances of its study get answers. If
the answer to one of those takes longer than usual, the waiting instance is parked: it is pending again, no
attempt is counted, and the end of the slow send wakes it.

If the process dies
    after it parked an instance   the process that repeats the slow send wakes the instance; if none does,
                                  it is due after PARKED_SECONDS
    while it sends a suspect      the next suspect is sent when that delivery is claimed again, or its lease
                                  ends
"""

import random
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic

from gateway.database.pool import Database
from gateway.database.tables import turns
from gateway.database.tables.deliveries import DeliveryClaim, Settled
from gateway.database.tables.turns import Turn
from gateway.domain.outcome import Outcome
from gateway.errors import DatabaseError

SILENT_SECONDS = 1.0
USUAL_TIMES = 3.0
"""A send is slow if its answer takes longer than SILENT_SECONDS, and longer than USUAL_TIMES the usual
time."""

PARKED_SECONDS = 60.0
"""How long a parked instance waits if nothing wakes it, on average: 30 to 90 seconds."""

WOKEN_AT_ONCE = 16
"""How many parked instances one send wakes."""
MAX_STUDIES = 1000
"""How many studies with a delivered instance are remembered."""
RECHECK_SECONDS = 1.0
"""How long one query for suspects is valid. A query for each instance would cost too much."""

_random = random.SystemRandom()

SIBLING_SILENT = "waits: the peer has not answered another instance of its study yet"
OTHER_SUSPECT = "waits for its turn: the peer broke off an association at an instance of its study or sender"


@dataclass(eq=False, slots=True)
class Sending:
    """A send in progress."""

    study_instance_uid: str
    last_progress: float | None = None
    """When the peer last accepted bytes; None before the first and after the answer."""
    took_seconds: float | None = None
    """Time from the last bytes to the answer; None before the answer."""
    wakes_parked: bool = False
    """Its end wakes parked instances: another was parked because of it, it was parked before, or is a
    suspect."""

    def note_progress(self) -> None:
        """Note that the peer accepts bytes of this send."""
        self.last_progress = monotonic()

    def note_answer(self) -> None:
        """Note that the peer has answered; the rest of the attempt does not wait for the peer."""
        if self.last_progress is not None:
            self.took_seconds = monotonic() - self.last_progress
            self.last_progress = None


@dataclass(slots=True)
class _PeerTurns:
    sending: list[Sending] = field(default_factory=list)
    delivered: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """Studies of which this process has delivered an instance, the latest last."""
    usual_seconds: float = 0.0
    """Moving mean of the time from the last bytes of an instance to the answer."""
    has_suspects: bool = False
    """Whether the last query or send of this process found suspects or parked instances of this peer."""
    checked_at: float = float("-inf")

    def slow_after(self) -> float:
        """Return the seconds of silence after which a send is slow."""
        return max(SILENT_SECONDS, USUAL_TIMES * self.usual_seconds)


class Turns:
    """The sends of one process to each peer. Nothing has to be restored after a crash."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._peers: dict[str, _PeerTurns] = {}

    @contextmanager
    def take(self, database: Database, claim: DeliveryClaim, *, most: int) -> Iterator["Sending | Settled"]:
        """Wait for the turn of a claimed delivery; yield its Sending, or the Settled if it was parked.

        The turn ends with the `with`. `most` is how many associations to the peer may be open.
        """
        with self._changed:
            peer = self._peers.setdefault(claim.destination, _PeerTurns())
            sending = self._begin(peer, claim.instance.study_instance_uid, most)
        if sending is None:
            yield _park(database, claim, SIBLING_SILENT)
            return
        try:
            if self._take_turn_of_suspects(database, peer, claim, sending) is Turn.WAIT:
                yield _park(database, claim, OTHER_SUSPECT)
            else:
                yield sending
        finally:
            with self._changed:
                peer.sending.remove(sending)
                self._changed.notify_all()

    def note_outcome(
        self, database: Database, claim: DeliveryClaim, sending: Sending, outcome: Outcome
    ) -> bool:
        """Note the outcome of a settled send, and wake parked instances; tell whether any was woken.

        Call this after the turn has ended. If the process dies before this call, the parked instances are due
        after PARKED_SECONDS.
        """
        with self._changed:
            peer = self._peers[claim.destination]
            # The first send of a study also wakes what was parked by a process that has died since.
            wakes = sending.wakes_parked or (
                peer.has_suspects and sending.study_instance_uid not in peer.delivered
            )
            self._learn(peer, sending, outcome)
        broken = outcome is Outcome.BROKEN
        if not (peer.has_suspects or wakes or broken):
            return False
        with suppress(DatabaseError), database.transaction() as session:
            if broken:
                turns.note_broken(session, claim, claim.destination)
            elif outcome is Outcome.DELIVERED:
                turns.note_taken(session, claim, claim.destination)
            if wakes or broken:
                return turns.call(session, claim.destination, most=WOKEN_AT_ONCE)
        return False

    def is_ordinary(self, claim: DeliveryClaim, sending: Sending) -> bool:
        """Tell whether the end of this send wakes no parked instance and clears no suspect."""
        with self._changed:
            return not (self._peers[claim.destination].has_suspects or sending.wakes_parked)

    def note_parked(self, database: Database, claim: DeliveryClaim) -> bool:
        """Wake parked instances after one was parked; tell whether any was woken.

        The send because of which it was parked may have ended just before that, and did not wake it.
        """
        with self._changed:
            study = claim.instance.study_instance_uid
            is_sent = any(one.study_instance_uid == study for one in self._peers[claim.destination].sending)
        with suppress(DatabaseError), database.transaction() as session:
            return turns.call(session, claim.destination, most=0 if is_sent else WOKEN_AT_ONCE)
        return False

    @staticmethod
    def _learn(peer: _PeerTurns, sending: Sending, outcome: Outcome) -> None:
        """Remember the study, and how long the answer took."""
        study = sending.study_instance_uid
        if outcome is Outcome.BROKEN:
            peer.delivered.pop(study, None)
            peer.has_suspects, peer.checked_at = True, monotonic()
        elif outcome is Outcome.DELIVERED:
            peer.delivered[study] = None
            peer.delivered.move_to_end(study)
            if len(peer.delivered) > MAX_STUDIES:
                peer.delivered.popitem(last=False)
            if sending.took_seconds is not None:
                peer.usual_seconds += (sending.took_seconds - peer.usual_seconds) / 4

    def _begin(self, peer: _PeerTurns, study: str, most: int) -> Sending | None:
        """Wait until one more of the study may be sent; return None if a send of the study is slow."""
        while True:
            siblings = [one for one in peer.sending if one.study_instance_uid == study]
            silent_since = [one.last_progress for one in siblings if one.last_progress is not None]
            left = min(silent_since, default=monotonic()) + peer.slow_after() - monotonic()
            if left <= 0:
                for one in siblings:
                    one.wakes_parked = True
                peer.has_suspects, peer.checked_at = True, monotonic()
                return None
            if len(siblings) < (max(most - 1, 1) if study in peer.delivered else 1):
                sending = Sending(study)
                peer.sending.append(sending)
                return sending
            self._changed.wait(left)

    @staticmethod
    def _take_turn_of_suspects(
        database: Database, peer: _PeerTurns, claim: DeliveryClaim, sending: Sending
    ) -> Turn:
        """Ask the database whether this instance is a suspect, and whether it is its turn."""
        if not peer.has_suspects and monotonic() - peer.checked_at < RECHECK_SECONDS:
            return Turn.FREE
        with database.statement() as session:
            peer.has_suspects = turns.is_needed(session, claim.destination)
            peer.checked_at = monotonic()
            if not peer.has_suspects:
                return Turn.FREE
            turn, was_parked = turns.take(session, claim, claim.destination)
        if was_parked or turn is Turn.TURN:
            sending.wakes_parked = True
        return turn


def _park(database: Database, claim: DeliveryClaim, reason: str) -> Settled:
    """Park a claimed delivery: give its claim back without sending it."""
    wait = timedelta(seconds=PARKED_SECONDS * (0.5 + _random.random()))
    # Use one transaction: it makes the row pending, and enqueues the message that ends the wait.
    with database.transaction() as session:
        return turns.park(session, claim, claim.destination, reason=reason, wait=wait)
