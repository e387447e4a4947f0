"""Decide which claimed instance may be sent to the PACS now, so that bad ones do not hold up the others.

A send at which the PACS falls silent holds a thread and an association for the whole `timeout_s`. Three rules
bound how many of them one study, or one sender, can hold:

    the first one   of a study of which this process has delivered nothing yet, one at a time is sent
    all but one     of any other study, all associations but one are used
    suspects        instances over which the PACS broke an association share one association, with their
                    siblings and over all processes (`is_suspect`, `take_turn` in migrations/0010_peers.sql)

An instance that may not be sent waits in its thread for as long as its siblings get answers. Once one of
them is silent for longer than is usual, it is parked: pending without an attempt, until a sibling wakes it.

If the process dies
    after it parked an instance   the process that repeats the send it waited for wakes it; otherwise it wakes
                                  by itself, after PARKED_SECONDS
    while it has the turn         the turn is free when that delivery is claimed again, or its lease is over
"""

import random
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic

from gateway.database.connection import Database
from gateway.database.tables import turns
from gateway.database.tables.deliveries import DeliveryClaim, Settled
from gateway.database.tables.turns import Turn
from gateway.domain.outcome import Outcome
from gateway.errors import DatabaseError

SILENT_SECONDS = 1.0
"""A PACS that stores does so within it, as a rule; one that is slower is given USUAL_TIMES its usual time."""
USUAL_TIMES = 3.0

PARKED_SECONDS = 60.0
"""How long a parked instance waits, give or take half, if nobody calls it."""

CALLED_AT_ONCE = 16
KNOWN_STUDIES = 1000
NEEDED_SECONDS = 1.0
"""How long it is believed that nothing is suspect: a look for each instance would cost too much."""

_random = random.SystemRandom()

SIBLING_SILENT = "waits: the peer has not answered yet to another instance of its study"
OTHER_SUSPECT = "waits for its turn: the peer broke an association over an instance of its study or sender"


@dataclass(eq=False, slots=True)
class Sending:
    """A send that is under way. `heard` is when the peer last took bytes; None where it owes no answer."""

    study_instance_uid: str
    heard: float | None = None
    took_seconds: float | None = None
    """From the last bytes to the answer, once it is there."""
    calls: bool = False
    """It wakes the parked when it ends: one is parked behind it, or it was woken itself, or is a suspect."""

    def note_progress(self) -> None:
        """The peer takes bytes of it."""
        self.heard = monotonic()

    def note_answer(self) -> None:
        """The peer has answered; what is left is ours."""
        if self.heard is not None:
            self.took_seconds = monotonic() - self.heard
            self.heard = None


@dataclass(slots=True)
class _PerPeer:
    sending: list[Sending] = field(default_factory=list)
    delivered: OrderedDict[str, None] = field(default_factory=OrderedDict)
    usual_seconds: float = 0.0
    needed: bool = False
    looked_at: float = float("-inf")

    def patience(self) -> float:
        return max(SILENT_SECONDS, USUAL_TIMES * self.usual_seconds)


class Turns:
    """The turns of one process; harmless to lose."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._peers: dict[str, _PerPeer] = {}

    @contextmanager
    def take(self, database: Database, claim: DeliveryClaim, *, most: int) -> Iterator["Sending | Settled"]:
        """The turn of a claimed delivery, for the length of the `with`; or how it was parked.

        `most` is how many associations to that peer there may be.
        """
        with self._changed:
            peer = self._peers.setdefault(claim.destination, _PerPeer())
            sending = self._enter(peer, claim.instance.study_instance_uid, most)
        if sending is None:
            yield _park(database, claim, SIBLING_SILENT)
            return
        try:
            if self._take_in_database(database, peer, claim, sending) is Turn.WAIT:
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
        """Learn from a send that was settled, and call who was parked; tell whether anybody was called.

        A process that dies before it has called leaves the parked to their own time.
        """
        with self._changed:
            peer = self._peers[claim.destination]
            # The first one of a study calls those that a process which died since parked behind it.
            calls = sending.calls or (peer.needed and sending.study_instance_uid not in peer.delivered)
            self._learn(peer, sending, outcome)
        broken = outcome is Outcome.BROKEN
        if not (peer.needed or calls or broken):
            return False
        with suppress(DatabaseError), database.transaction() as session:
            if broken:
                turns.note_broken(session, claim, claim.destination)
            elif outcome is Outcome.DELIVERED:
                turns.note_taken(session, claim, claim.destination)
            if calls or broken:
                return turns.call(session, claim.destination, most=CALLED_AT_ONCE)
        return False

    def note_parked(self, database: Database, claim: DeliveryClaim) -> bool:
        """Call who was parked just as whom it waits for ended; tell whether anybody was called."""
        with self._changed:
            study = claim.instance.study_instance_uid
            waits = any(one.study_instance_uid == study for one in self._peers[claim.destination].sending)
        with suppress(DatabaseError), database.transaction() as session:
            return turns.call(session, claim.destination, most=0 if waits else CALLED_AT_ONCE)
        return False

    @staticmethod
    def _learn(peer: _PerPeer, sending: Sending, outcome: Outcome) -> None:
        study = sending.study_instance_uid
        if outcome is Outcome.BROKEN:
            peer.delivered.pop(study, None)
            peer.needed, peer.looked_at = True, monotonic()
        elif outcome is Outcome.DELIVERED:
            peer.delivered[study] = None
            peer.delivered.move_to_end(study)
            if len(peer.delivered) > KNOWN_STUDIES:
                peer.delivered.popitem(last=False)
            if sending.took_seconds is not None:
                peer.usual_seconds += (sending.took_seconds - peer.usual_seconds) / 4

    def _enter(self, peer: _PerPeer, study: str, most: int) -> Sending | None:
        """Wait for as long as the siblings get answers; None where one does not."""
        while True:
            siblings = [one for one in peer.sending if one.study_instance_uid == study]
            patience = peer.patience()
            heard = [one.heard for one in siblings if one.heard is not None]
            left = min(heard, default=monotonic()) + patience - monotonic()
            if left <= 0:
                for one in siblings:
                    one.calls = True
                peer.needed, peer.looked_at = True, monotonic()
                return None
            if len(siblings) < (max(most - 1, 1) if study in peer.delivered else 1):
                sending = Sending(study)
                peer.sending.append(sending)
                return sending
            self._changed.wait(left)

    @staticmethod
    def _take_in_database(database: Database, peer: _PerPeer, claim: DeliveryClaim, sending: Sending) -> Turn:
        if not peer.needed and monotonic() - peer.looked_at < NEEDED_SECONDS:
            return Turn.FREE
        with database.statement() as session:
            peer.needed = turns.is_needed(session, claim.destination)
            peer.looked_at = monotonic()
            if not peer.needed:
                return Turn.FREE
            turn, was_parked = turns.take(session, claim, claim.destination)
        if was_parked or turn is Turn.TURN:
            sending.calls = True
        return turn


def _park(database: Database, claim: DeliveryClaim, reason: str) -> Settled:
    wait = timedelta(seconds=PARKED_SECONDS * (0.5 + _random.random()))
    # In one transaction: pending, with the message that ends the wait.
    with database.transaction() as session:
        return turns.park(session, claim, claim.destination, reason=reason, wait=wait)
