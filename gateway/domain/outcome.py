"""The outcome of one attempt, and what follows from it for the delivery and for the peer.

`RULES` says for each outcome whether the attempt is counted, what limits the retries, and what it shows about
the peer. `decide` applies the limits of the configuration.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from gateway.domain.delivery import Event
from gateway.domain.dimse_status import Meaning


class Outcome(StrEnum):
    """The outcome of one attempt."""

    DELIVERED = "delivered"
    ALREADY_THERE = "already_there"  # 0x0111, Duplicate SOP Instance
    NOT_NOW = "not_now"
    REFUSED = "refused"
    NEVER = "never"
    AWAY = "away"
    TAKES_NOTHING = "takes_nothing"  # the peer accepts associations, but no Storage SOP Class
    CROWDED = "crowded"  # all associations to the peer stayed in use
    OVERTAKEN = "overtaken"  # its claim no longer holds (another process has it, or PostgreSQL lost it)
    BROKEN = "broken"  # abort or timeout after the C-STORE-RQ was sent
    LOST_FILE = "lost_file"  # the file is missing, or does not hold the bytes that were received
    NOT_READ = "not_read"  # the file could not be read now (EIO, EMFILE, ENOMEM); it may be intact


OUTCOME_OF: dict[Meaning, Outcome] = {
    Meaning.STORED: Outcome.DELIVERED,
    Meaning.DUPLICATE_UID: Outcome.ALREADY_THERE,
    Meaning.NOT_NOW: Outcome.NOT_NOW,
    Meaning.REFUSED: Outcome.REFUSED,
    Meaning.NEVER: Outcome.NEVER,
}


class PeerHealth(StrEnum):
    """What an outcome shows about the peer, for the circuit breaker."""

    WORKS = "works"  # closes the breaker, and ends a row of failures
    AWAY = "away"  # opens it at once
    SUSPECT = "suspect"  # opens it if several different instances in a row show this
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Rule:
    """What follows from an outcome.

    `counted`: the attempt is counted in the delivery's `attempts`. `bound`: what limits the retries.
    `peer`: what it shows about the peer. `behind`: a retry comes after all other deliveries. `by_store`:
    the peer was reached but stored nothing, so only a C-STORE can close its breaker, not a C-ECHO.
    """

    counted: bool
    bound: str  # none: no limit | attempts | time | never: no retry
    peer: PeerHealth
    behind: bool = False
    by_store: bool = False


RULES: dict[Outcome, Rule] = {
    Outcome.DELIVERED: Rule(counted=True, bound="none", peer=PeerHealth.WORKS),
    Outcome.ALREADY_THERE: Rule(counted=True, bound="none", peer=PeerHealth.WORKS),
    Outcome.NOT_NOW: Rule(counted=True, bound="time", peer=PeerHealth.SUSPECT, by_store=True),
    Outcome.REFUSED: Rule(counted=True, bound="attempts", peer=PeerHealth.WORKS),
    Outcome.NEVER: Rule(counted=True, bound="never", peer=PeerHealth.WORKS),
    Outcome.CROWDED: Rule(counted=False, bound="none", peer=PeerHealth.UNKNOWN),
    Outcome.OVERTAKEN: Rule(counted=False, bound="none", peer=PeerHealth.UNKNOWN),
    Outcome.AWAY: Rule(counted=False, bound="none", peer=PeerHealth.AWAY),
    Outcome.TAKES_NOTHING: Rule(counted=False, bound="time", peer=PeerHealth.AWAY, by_store=True),
    Outcome.BROKEN: Rule(counted=True, bound="attempts", peer=PeerHealth.SUSPECT, behind=True, by_store=True),
    Outcome.LOST_FILE: Rule(counted=True, bound="attempts", peer=PeerHealth.UNKNOWN),
    Outcome.NOT_READ: Rule(counted=True, bound="time", peer=PeerHealth.UNKNOWN),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the configuration: how many retries, and for how long."""

    max_retries: int
    give_up_after: timedelta


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to the delivery and the peer. `reason` is for the operator, empty when delivered."""

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
    """Decide what follows from `outcome`.

    `refusals` is the number of earlier attempts that count towards `max_retries`; a "not now" does not
    count. `owed_for` is the time since the delivery was created or requeued. `conflict`: more than one
    version of its SOP Instance UID was received. `probing`: the peer's breaker is open, and this instance
    was sent to test it. If the association breaks then, the instance is not the cause, so `give_up_after`
    limits its retries.
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
        # The peer does not say which version it has. If it lacks this one, "delivered" would hide that.
        reason = "conflict: the peer holds this SOP Instance UID already, maybe another version of it"
        return decision(Event.DIE, reason)
    if outcome in {Outcome.DELIVERED, Outcome.ALREADY_THERE}:
        return decision(Event.DELIVER, "")
    if rule.bound == "never":
        return decision(Event.DIE, error)
    given_up = reason_to_give_up(rule, refusals=refusals, owed_for=owed_for, limits=limits, error=error)
    return decision(Event.RETRY, error) if given_up is None else decision(Event.DIE, given_up)


def reason_to_give_up(
    rule: Rule, *, refusals: int, owed_for: timedelta, limits: Limits, error: str
) -> str | None:
    """Return why a delivery or a unit is not tried again after `error`; None if no limit is reached."""
    if rule.bound == "attempts" and refusals >= limits.max_retries:
        return f"gave up after {refusals + 1} attempts: {error}"
    if rule.bound == "time" and owed_for >= limits.give_up_after:
        return f"gave up after {limits.give_up_after / timedelta(hours=1):g} hours: {error}"
    return None
