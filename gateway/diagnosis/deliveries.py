"""Deliveries and messages that are dead, and deliveries that wait for long."""

from collections.abc import Iterator
from datetime import timedelta

from gateway.database.tables.overview import OldestWaiting, Overview
from gateway.diagnosis.counts import figure, is_to, option_of, waiting_for
from gateway.diagnosis.finding import Finding, Holds, note, problem
from gateway.diagnosis.words import in_words
from gateway.domain.delivery import State
from gateway.domain.routing import Route, Target
from gateway.times import since

WAITS_LONG = timedelta(minutes=5)
"""A delivery that waits longer, although its destination can be reached, is a finding."""


def dead(view: Overview) -> Iterator[Finding]:
    """Yield a finding for each target with dead deliveries."""
    for target in view.targets:
        counted = [c for c in view.counts if is_to(c, target) and c.state is State.DEAD]
        if not counted:
            continue
        count = figure(counted[0].count, exact=counted[0].exact)
        reason = next((r for r in view.dead_reasons if is_to(r, target)), None)
        why = ""
        if reason is not None:
            show = f"`mini-pacs deliveries show {reason.delivery_id}`"
            why = f", mostly: {in_words(reason.reason or 'no reason')} ({show})"
        yield problem(
            f"deliveries.dead:{target.queue}",
            f"{count} deliveries to {target.queue} are dead{why}",
            "they are not sent again by themselves; their files are in failed/",
            f"when the cause is repaired: `mini-pacs deliveries retry --state dead {option_of(target)}`, "
            "else `mini-pacs deliveries cancel --state dead`",
            holds=Holds.SOME,
        )
    if view.dead_messages:
        count = "1 message is" if view.dead_messages == 1 else f"{view.dead_messages:,} messages are"
        reason_text = "" if view.dead_message is None else f", the last: {view.dead_message.reason}"
        yield problem(
            "messages.dead",
            f"{count} dead{reason_text}",
            "the work of these messages is not done",
            "`mini-pacs queue dead` lists them; `mini-pacs queue requeue ID` runs one again, "
            "`mini-pacs queue discard ID` deletes it",
            holds=Holds.SOME,
        )


def waiting_long(view: Overview) -> Iterator[Finding]:
    """Yield the oldest delivery of each route that waits although a destination is open."""
    for oldest in view.oldest:
        target = Target(oldest.route, oldest.target)
        if not view.is_configured(target):
            yield _not_configured(view, target)
            continue
        peers = [
            d
            for d in view.destinations
            if d.route is oldest.route and (d.route is Route.WORKERS or d.ae_title == oldest.target)
        ]
        is_open = any(peer.is_open_for_work for peer in peers) or not peers
        if is_open and oldest.owed_since < view.now - WAITS_LONG:
            yield _waits(view, oldest, target)


def _waits(view: Overview, oldest: OldestWaiting, target: Target) -> Finding:
    reason = f": {in_words(oldest.reason)}" if oldest.reason else ""
    failed = bool(oldest.reason and oldest.attempts)
    show = f"`mini-pacs deliveries show {oldest.delivery_id}`"
    make = problem if failed else note
    return make(
        f"deliveries.waits:{target.queue}",
        f"Delivery {oldest.delivery_id} to {target.queue} waits for "
        f"{since(oldest.owed_since, view.now)}{reason}",
        f"it was tried {oldest.attempts} times, and is tried again by itself" if failed else "",
        show,
        since=oldest.owed_since,
        holds=Holds.SOME,
    )


def _not_configured(view: Overview, target: Target) -> Finding:
    what = "archive" if target.route.is_archive else "application"
    return problem(
        f"deliveries.not_configured:{target.queue}",
        f"{waiting_for(view, target)} instances wait for the {what} {target.name}, which config.yaml does "
        "not name",
        "nothing is lost",
        f"name it again, or give them up: `mini-pacs deliveries cancel {option_of(target)}`",
        holds=Holds.SOME,
    )
