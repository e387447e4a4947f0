"""The associations of this process to one peer. Used under the lock of `gateway.forward.associations`."""

from dataclasses import dataclass, field
from time import monotonic

from gateway.config.destination import Destination
from gateway.dicom.association import Association
from gateway.dicom.contexts import ProposedContext

PROMPT_SECONDS = 0.3
"""A peer that is not busy answers a request for an association within this time."""


@dataclass(slots=True)
class LentAssociation:
    """An association that is lent to a thread, or idle.

    `destination` is the peer as it was configured. `fresh` means that nothing was sent on it before; `since`
    is when it was opened or became idle.
    """

    association: Association
    destination: Destination
    fresh: bool
    since: float = field(default_factory=monotonic)


@dataclass(slots=True)
class PeerAssociations:
    """The associations to one peer: those that are idle, and the number of all."""

    idle: list[LentAssociation] = field(default_factory=list)
    open: int = 0
    """Associations that are idle, lent, or being opened."""
    requested: list[float] = field(default_factory=list)
    """When each request for an association was sent that the peer has not answered yet."""
    last_progress: float = 0.0
    """When the peer last accepted bytes from us, or answered."""

    def leaves_a_request_unanswered(self) -> bool:
        """Tell whether the oldest request waits for longer than PROMPT_SECONDS."""
        return bool(self.requested) and monotonic() - self.requested[0] > PROMPT_SECONDS

    def take_idle(self, context: ProposedContext, dropped: list[LentAssociation]) -> LentAssociation | None:
        """Take an idle association that proposed `context`, the newest first; None if there is none.

        Add those that the peer has ended to `dropped`.
        """
        for lent in reversed(self.idle):
            if context not in lent.association.proposed:
                continue
            self.idle.remove(lent)
            if lent.association.is_alive():
                lent.fresh = False
                return lent
            self.open -= 1
            dropped.append(lent)
        return None

    def take_others(self, destination: Destination | None) -> list[LentAssociation]:
        """Take the idle associations to a peer that is configured otherwise now, or not at all."""
        others = [lent for lent in self.idle if lent.destination != destination]
        self.idle = [lent for lent in self.idle if lent not in others]
        self.open -= len(others)
        return others

    def take_expired(self, oldest: float) -> list[LentAssociation]:
        """Take those that became idle before `oldest`; take all idle ones while a request is unanswered."""
        expired = [lent for lent in self.idle if lent.since < oldest or self.leaves_a_request_unanswered()]
        self.idle = [lent for lent in self.idle if lent not in expired]
        self.open -= len(expired)
        return expired
