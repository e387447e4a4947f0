"""What is wrong, in words, and what to do next: read off an overview. Pure.

A problem wants somebody to act, now or soon, and makes `mini-pacs status --check` fail; a note is good to
know. Both end with the command that shows more, or mends it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from cli.times import moment, since, span
from gateway.domain.delivery import State
from gateway.domain.routing import Route
from gateway.store.destinations import DestinationState
from gateway.store.overview import Overview

SWEEP_LATE = timedelta(minutes=3)
"""The sweep runs each minute; must exceed a slow one."""
WAITS_LONG = timedelta(minutes=5)
"""A delivery to an open route that waits longer is worth a note."""


@dataclass(frozen=True, slots=True)
class Space:
    """The spool: free bytes and its reserve, and how many files each folder holds, up to `limit`."""

    free_bytes: int
    reserve_bytes: int
    files: dict[str, int]
    limit: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence for the operator."""

    problem: bool
    text: str


def findings(view: Overview, space: Space | None) -> list[Finding]:
    """What is worth saying, the gravest first; nothing where all is well."""
    said = [
        *_processes(view),
        *_space(space),
        *_destinations(view),
        *_dead(view),
        *_waiting(view),
        *_results(view),
        *_faults(view),
    ]
    return sorted(said, key=lambda finding: not finding.problem)


def figure(count: int, *, exact: bool = True) -> str:
    """A count as people read it; `more than` where counting stopped."""
    return f"{count:,}" if exact else f"more than {count:,}"


def waiting(view: Overview, route: Route) -> str:
    """How many instances wait on a route, as people read it."""
    exact = all(c.exact for c in view.counts if c.route is route)
    return figure(view.waiting(route), exact=exact)


def _processes(view: Overview) -> Iterator[Finding]:
    if not view.receivers:
        yield Finding(
            True,
            "No Storage SCP is connected to this database: senders cannot reach the edge; `mini-pacs serve`",
        )
    served = {name for consumer in view.consumers if consumer.alive for name in consumer.queue_names}
    for queue in (*Route, "sweep"):
        if queue not in served:
            wait = (
                f"{waiting(view, Route(queue))} deliveries wait"
                if queue in set(Route)
                else "nothing is healed"
            )
            yield Finding(
                True, f"No actor process serves the queue {queue}: {wait}; `dramatiq actors -Q {queue}`"
            )
    if not view.sweeps:
        yield Finding(
            True, "The sweep never ran: is the scheduler up? `periodiq actors`; by hand: `mini-pacs sweep`"
        )
    elif (last := max(run.ran_at for run in view.sweeps)) < view.now - SWEEP_LATE:
        yield Finding(
            True,
            f"The sweep ran last {since(last, view.now)} ago, and should each minute: is the scheduler up? "
            "`periodiq actors`; by hand: `mini-pacs sweep`",
        )


def _space(space: Space | None) -> Iterator[Finding]:
    if space is not None and space.free_bytes <= space.reserve_bytes:
        yield Finding(
            True,
            f"The spool's disk is at its reserve ({space.free_bytes >> 20} MiB free, edge.disk_reserve_mb is "
            f"{space.reserve_bytes >> 20}): senders are rejected for now, nothing is lost; free space, or "
            "lower sweep.retention_hours and run `mini-pacs sweep purge`",
        )


def _destinations(view: Overview) -> Iterator[Finding]:
    workers = [d for d in view.destinations if d.route is Route.WORKERS]
    open_workers = sum(d.is_open_for_work for d in workers)
    for destination in view.destinations:
        if destination.is_open_for_work:
            continue
        if destination.route is Route.PACS:
            effect = f"{waiting(view, Route.PACS)} instances wait; nothing is lost"
        elif open_workers:
            effect = f"the other {open_workers} of {len(workers)} workers get its share"
        else:
            effect = (
                f"no worker is open for work: {waiting(view, Route.WORKERS)} instances wait; nothing is lost"
            )
        yield Finding(True, _closed(view, destination, effect))


def _closed(view: Overview, destination: DestinationState, effect: str) -> str:
    title = destination.ae_title
    ago = f"{moment(destination.changed_at)} ({since(destination.changed_at, view.now)})"
    if destination.paused:
        by = destination.paused_by or "somebody"
        return f"{title} is paused since {ago} by {by}; {effect}; `mini-pacs destinations resume {title}`"
    probe = ""
    if destination.next_probe_at is not None:
        left = max((destination.next_probe_at - view.now).total_seconds(), 0)
        probe = f" next probe in {span(left)};" if left else " next probe now;"
    what = "refuses instances for now" if destination.probe_by_store else "is away"
    reason = destination.reason or "no answer"
    return f"{title} {what} since {ago}: {reason}; {effect};{probe} `mini-pacs destinations echo {title}`"


def _dead(view: Overview) -> Iterator[Finding]:
    for route in Route:
        dead = [c for c in view.counts if c.route is route and c.state is State.DEAD]
        if not dead:
            continue
        count = figure(dead[0].count, exact=dead[0].exact)
        reason = next((r for r in view.dead_reasons if r.route is route), None)
        why = ""
        if reason is not None:
            show = f"`mini-pacs deliveries show {reason.delivery_id}`"
            why = f", mostly: {reason.reason or 'no reason'} ({show})"
        yield Finding(
            True,
            f"{count} deliveries to {route.value} are dead{why}; their files are in failed/; when the "
            f"cause is mended: `mini-pacs deliveries retry --state dead --route {route.value}`, "
            "else cancel them",
        )
    if view.dead_messages:
        reason_text = "" if view.dead_message is None else f", the last: {view.dead_message.reason}"
        yield Finding(True, f"{view.dead_messages:,} messages are dead{reason_text}; `mini-pacs queue dead`")


def _waiting(view: Overview) -> Iterator[Finding]:
    for oldest in view.oldest:
        peers = [d for d in view.destinations if d.route is oldest.route]
        is_open = any(peer.is_open_for_work for peer in peers) or not peers
        if is_open and oldest.owed_since < view.now - WAITS_LONG:
            reason = f": {oldest.reason}" if oldest.reason else ""
            yield Finding(
                False,
                f"Delivery {oldest.delivery_id} to {oldest.route.value} waits for "
                f"{since(oldest.owed_since, view.now)}{reason}; "
                f"`mini-pacs deliveries show {oldest.delivery_id}`",
            )


def _results(view: Overview) -> Iterator[Finding]:
    results = view.results
    if results.given_up:
        yield Finding(
            False,
            f"{results.given_up:,} instances got no result from any worker; their originals are not "
            "concerned; to ask again: `mini-pacs deliveries resend --route workers --study UID`",
        )
    for count, what in ((results.unmatched, "matched nothing here"), (results.ambiguous, "are ambiguous")):
        if count:
            yield Finding(False, f"{count:,} results {what}; they go to the PACS all the same")


def _faults(view: Overview) -> Iterator[Finding]:
    for fault in view.faults:
        until = "until it is cleared" if fault.until is None else f"until {moment(fault.until)}"
        yield Finding(
            True,
            f"Fault {fault.name} is injected by {fault.injected_by} {until}; "
            f"`mini-pacs clear-faults {fault.name}`",
        )
