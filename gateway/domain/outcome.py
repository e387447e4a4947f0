"""What one attempt came to, and what follows from it: design.md §7 as a table.

`RULES` says per outcome what it costs the delivery and what it tells about the peer; `decide` applies
the limits of the configuration. Nothing here knows how an outcome was found.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from gateway.domain.delivery import Event
from gateway.domain.dimse_status import Meaning


class Outcome(StrEnum):
    """What one attempt came to."""

    DELIVERED = "delivered"
    ALREADY_THERE = "already_there"  # 0x0111
    NOT_NOW = "not_now"
    REFUSED = "refused"
    NEVER = "never"
    AWAY = "away"
    TAKES_NOTHING = "takes_nothing"  # it takes associations, but accepts no Storage SOP Class
    CROWDED = "crowded"  # all our associations to it stayed busy
    OVERTAKEN = "overtaken"  # the claim passed to somebody else, and the last bytes were not sent
    BROKEN = "broken"  # abort or timeout after the C-STORE-RQ left
    LOST_FILE = "lost_file"  # our own file is gone, or is not what was received
    NOT_READ = "not_read"  # our own disk or process is in need (EIO, EMFILE, ENOMEM): the file may be well


OUTCOME_OF: dict[Meaning, Outcome] = {
    Meaning.HAS_IT: Outcome.DELIVERED,
    Meaning.HAS_THAT_UID: Outcome.ALREADY_THERE,
    Meaning.NOT_NOW: Outcome.NOT_NOW,
    Meaning.REFUSED: Outcome.REFUSED,
    Meaning.NEVER: Outcome.NEVER,
}


class PeerHealth(StrEnum):
    """What an outcome tells about the peer, for the circuit breaker."""

    IS_WELL = "is_well"  # closes it, and ends a row of failures
    IS_AWAY = "is_away"  # opens it at once
    MAY_BE_ILL = "may_be_ill"  # opens it after several different instances in a row
    SAYS_NOTHING = "says_nothing"


@dataclass(frozen=True, slots=True)
class Rule:
    """What an outcome costs: is the attempt counted, what bounds the retries, what of the peer.

    `by_store`: the peer was reached and took no instance; a breaker that opens is closed by a C-STORE only.
    """

    counted: bool
    bound: str  # none | attempts | time | never
    peer: PeerHealth
    behind: bool = False
    by_store: bool = False


RULES: dict[Outcome, Rule] = {
    Outcome.DELIVERED: Rule(counted=True, bound="none", peer=PeerHealth.IS_WELL),
    Outcome.ALREADY_THERE: Rule(counted=True, bound="none", peer=PeerHealth.IS_WELL),
    Outcome.NOT_NOW: Rule(counted=True, bound="time", peer=PeerHealth.MAY_BE_ILL, by_store=True),
    Outcome.REFUSED: Rule(counted=True, bound="attempts", peer=PeerHealth.IS_WELL),
    Outcome.NEVER: Rule(counted=True, bound="never", peer=PeerHealth.IS_WELL),
    Outcome.CROWDED: Rule(counted=False, bound="none", peer=PeerHealth.SAYS_NOTHING),
    Outcome.OVERTAKEN: Rule(counted=False, bound="none", peer=PeerHealth.SAYS_NOTHING),
    Outcome.AWAY: Rule(counted=False, bound="none", peer=PeerHealth.IS_AWAY),
    Outcome.TAKES_NOTHING: Rule(counted=False, bound="time", peer=PeerHealth.IS_AWAY, by_store=True),
    Outcome.BROKEN: Rule(
        counted=True, bound="attempts", peer=PeerHealth.MAY_BE_ILL, behind=True, by_store=True
    ),
    Outcome.LOST_FILE: Rule(counted=True, bound="attempts", peer=PeerHealth.SAYS_NOTHING),
    Outcome.NOT_READ: Rule(counted=True, bound="time", peer=PeerHealth.SAYS_NOTHING),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What the configuration allows: `max_retries` after the first attempt, `give_up_after` in time."""

    max_retries: int
    give_up_after: timedelta


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of the delivery; `reason` is for the operator, empty when delivered."""

    event: Event
    counted: bool
    refused: bool
    behind: bool
    by_store: bool
    peer: PeerHealth
    reason: str


def decide(
    outcome: Outcome,
    *,
    refusals: int,
    owed_for: timedelta,
    conflict: bool,
    limits: Limits,
    error: str,
    probing: bool = False,
) -> Decision:
    """What follows from `outcome`.

    `refusals` are the attempts before this one that `max_retries` bounds (a peer that said "not now" all
    night has refused nothing), `owed_for` the time since the delivery was (last)
    owed, `conflict` whether more than one version of its SOP Instance UID was received. `probing` says that
    the peer's breaker is open and the instance was sent to try it: if the peer hangs once more, the instance
    is not to blame, and time bounds its retries.
    """
    rule = RULES[outcome]
    if probing and outcome is Outcome.BROKEN:
        rule = replace(rule, bound="time")

    def decision(event: Event, reason: str) -> Decision:
        return Decision(
            event,
            rule.counted,
            rule.bound == "attempts",
            rule.behind and event is Event.RETRY,
            rule.by_store,
            rule.peer,
            reason,
        )

    if outcome is Outcome.ALREADY_THERE and conflict:
        # Which version the peer kept it does not say; where ours is not there, "delivered" would hide it.
        reason = "conflict: the peer holds this SOP Instance UID already, maybe another version of it"
        return decision(Event.DIE, reason)
    if outcome in {Outcome.DELIVERED, Outcome.ALREADY_THERE}:
        return decision(Event.DELIVER, "")
    if rule.bound == "never":
        return decision(Event.DIE, error)
    if rule.bound == "attempts" and refusals >= limits.max_retries:
        return decision(Event.DIE, f"gave up after {refusals + 1} attempts: {error}")
    if rule.bound == "time" and owed_for >= limits.give_up_after:
        hours = limits.give_up_after / timedelta(hours=1)
        return decision(Event.DIE, f"gave up after {hours:g} hours: {error}")
    return decision(Event.RETRY, error)
