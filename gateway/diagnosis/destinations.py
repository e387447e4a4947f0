"""The PACS and the workers: paused, away, without C-STORE, silent in the middle of a send."""

from collections.abc import Iterator
from datetime import timedelta

from gateway.database.tables.destinations import DestinationState
from gateway.database.tables.overview import Overview
from gateway.diagnosis.counts import waiting, waiting_for
from gateway.diagnosis.finding import Finding, Holds, note, problem
from gateway.diagnosis.unanswered import unanswered
from gateway.diagnosis.words import in_words
from gateway.domain.instance import instances_in_words
from gateway.domain.routing import Route, Target
from gateway.times import moment, since, span

AHEAD = timedelta(minutes=1)
"""Clocks that NTP sets differ by less."""
NEWER_REASON = timedelta(seconds=1)
"""If a reason is newer than the state by more than this, it is shown with its own time."""


def destinations(view: Overview) -> Iterator[Finding]:
    """Yield a finding for each destination that gets nothing, or not everything."""
    workers = [d for d in view.destinations if d.route is Route.WORKERS]
    open_workers = sum(d.is_open_for_work for d in workers)
    for destination in view.destinations:
        if destination.is_open_for_work:
            yield from _takes_some(view, destination)
            continue
        if destination.route.is_archive:
            effect = f"{_waiting_at(view, destination)} instances wait; nothing is lost"
        elif open_workers:
            effect = f"the other {open_workers} of {len(workers)} workers get its images"
        else:
            effect = (
                f"no worker can be reached: {waiting(view, Route.WORKERS)} instances wait; nothing is lost"
            )
        yield _closed(view, destination, effect)
    yield from _unanswered(view)


def holds_of(route: Route) -> Holds:
    """Return what a destination of that route holds back."""
    return Holds.PACS if route.is_archive else Holds.WORKERS


def _closed(view: Overview, destination: DestinationState, effect: str) -> Finding:
    title = destination.ae_title
    ago = f"{moment(destination.changed_at)} ({since(destination.changed_at, view.now)})"
    holds = holds_of(destination.route)
    if destination.paused:
        by = destination.paused_by or "somebody"
        until = "" if destination.paused_until is None else f", until {moment(destination.paused_until)}"
        reason = f": {destination.pause_reason}" if destination.pause_reason else ""
        return problem(
            f"destination.paused:{title}",
            f"{title} is paused since {ago} by {by}{until}{reason}",
            effect,
            f"`mini-pacs destinations resume {title}`",
            since=destination.changed_at,
            holds=holds,
        )
    if destination.changed_at > view.now + AHEAD:
        return _ahead(view, destination, effect)
    probe = ""
    if destination.next_probe_at is not None:
        left = max((destination.next_probe_at - view.now).total_seconds(), 0)
        probe = f"; next probe in {span(left)}" if left else "; next probe now"
    return problem(
        f"destination.away:{title}",
        f"{title} {_what(destination)} since {ago}: {_reason(view, destination)}",
        effect + probe,
        _try_again(destination),
        since=destination.changed_at,
        holds=holds,
    )


def _ahead(view: Overview, destination: DestinationState, effect: str) -> Finding:
    """Say that a destination failed at a time in the future, and that its next probe is later still."""
    title = destination.ae_title
    probe = destination.next_probe_at or destination.changed_at
    return problem(
        f"destination.away:{title}",
        f"{title} {_what(destination)} since {moment(destination.changed_at)}, which is in the future: the "
        f"clock of PostgreSQL was ahead; the reason was: {_reason(view, destination)}",
        f"{effect}; it is not probed before {moment(probe)}",
        f"`mini-pacs destinations resume {title}` asks it now; let all hosts use NTP (`chronyc tracking`)",
        holds=holds_of(destination.route),
    )


def _try_again(destination: DestinationState) -> str:
    """Return the command that tries a destination again. If it refuses C-STOREs, a C-ECHO proves nothing."""
    title = destination.ae_title
    if destination.probe_by_store:
        return f"look into the log of {title}; `mini-pacs destinations resume {title}` tries it now"
    return f"`mini-pacs destinations echo {title}`"


def _what(destination: DestinationState) -> str:
    if not destination.probe_by_store:
        return "is away"
    if destination.answers is None:
        return "takes no C-STORE"
    return f"answers {destination.answers} but takes no C-STORE"


def _reason(view: Overview, destination: DestinationState) -> str:
    """Return why a destination gets nothing; add the time of the reason if it is newer than the state."""
    reason = in_words(destination.reason or "no answer")
    changed = destination.reason_at
    if changed is None or changed <= destination.changed_at + NEWER_REASON:
        return reason
    return f"{reason}, since {moment(changed)} ({since(changed, view.now)})"


def _takes_some(view: Overview, destination: DestinationState) -> Iterator[Finding]:
    title = destination.ae_title
    echo = f"`mini-pacs destinations echo {title}`"
    holds = holds_of(destination.route)
    if destination.is_tried:
        ago = f"{moment(destination.changed_at)} ({since(destination.changed_at, view.now)})"
        yield problem(
            f"destination.away:{title}",
            f"{title} {_what(destination)} since {ago}: {_reason(view, destination)}",
            "it is tried with one instance at a time",
            echo,
            since=destination.changed_at,
            holds=holds,
        )
    elif destination.suspects and destination.failures_in_row and _has_waiting(view, destination):
        # Its last attempts all failed. Failures of one study alone do not open the breaker.
        yield problem(
            f"destination.breaks_associations:{title}",
            f"{title} took nothing since it broke the association over {destination.suspects:,} instances: "
            f"{_reason(view, destination)}",
            f"{_waiting_at(view, destination)} instances wait; nothing is lost",
            echo,
            holds=holds,
        )
    elif destination.suspects:
        yield note(
            f"destination.suspects:{title}",
            f"{title} broke the association during {destination.suspects:,} instances in the last 10 minutes",
            "they and their studies share one association, all others are sent as usual",
            "`mini-pacs deliveries list --state pending`",
            holds=Holds.SOME,
        )


def _has_waiting(view: Overview, destination: DestinationState) -> bool:
    """Tell whether instances wait for an archive; for a worker, whether some wait for any of them."""
    return bool(
        view.waiting(destination.route, destination.ae_title if destination.route.is_archive else None)
    )


def _waiting_at(view: Overview, destination: DestinationState) -> str:
    if destination.route.is_archive:
        return waiting_for(view, Target(destination.route, destination.ae_title))
    return waiting(view, destination.route)


def _unanswered(view: Overview) -> Iterator[Finding]:
    routes = {d.ae_title: d.route for d in view.destinations if d.is_open_for_work and not d.is_tried}
    for one in unanswered(view):
        if one.ae_title not in routes:  # `destinations` says what is wrong with the others
            continue
        what = instances_in_words(one.count)
        others = "it takes others" if one.takes_others else "it took nothing since"
        make = note if one.takes_others else problem
        yield make(
            f"destination.unanswered:{one.ae_title}",
            f"{one.ae_title} has not answered {what}, the oldest for {span(one.oldest.total_seconds())}; "
            f"{others}",
            "nothing is lost: after timeout_s they are tried again",
            f"`mini-pacs destinations echo {one.ae_title}`",
            since=view.now - one.oldest,
            holds=Holds.SOME if one.takes_others else holds_of(routes[one.ae_title]),
        )
