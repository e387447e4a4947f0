"""Derive what is wrong, and what to do next, from an overview of the database.

No function here reads a file or the database. A problem needs an operator to act, and it makes the command
`mini-pacs status --check` fail. A note does neither. Each finding says what happened, what it means for
images, and which command shows more or repairs it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from cli.times import moment, since, span
from cli.unanswered import unanswered
from gateway.database.tables.destinations import DestinationState
from gateway.database.tables.overview import Count, DeadReason, Overview, Unserved
from gateway.domain.delivery import State
from gateway.domain.identifiers import printable
from gateway.domain.routing import Route, Target, route_of_queue
from gateway.processes.standing import Disagreement
from gateway.spool.places import DAMAGED

SWEEP_LATE = timedelta(minutes=3)
"""After this time the sweep is late. It runs each minute; this must exceed a slow run."""
NEWER_REASON = timedelta(seconds=1)
"""If a reason is newer than the state by more than this, it is shown with its own time."""
UNREGISTERED_LONG = timedelta(seconds=60)
"""Receptions are registered within milliseconds; after this time something is wrong."""
WAITS_LONG = timedelta(minutes=5)
"""A delivery that waits longer, although its destination can be reached, gets a note."""


@dataclass(frozen=True, slots=True)
class Space:
    """The spool in `root`: free bytes, its reserve, and how many files each folder holds, up to `limit`.

    `unregistered` receptions are acknowledged and have no rows yet, the oldest since `unregistered_since`;
    PostgreSQL refused the values of `refused` others.
    """

    free_bytes: int
    reserve_bytes: int
    files: dict[str, int]
    limit: int
    root: str = "the spool"
    unregistered: int = 0
    unregistered_since: datetime | None = None
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence for the operator; `problem` says whether the operator has to act."""

    problem: bool
    text: str


def findings(
    view: Overview,
    space: Space | None,
    unknown: str = "",
    standing: Iterable[Disagreement] = (),
) -> list[Finding]:
    """Return the findings, problems before notes; none where all is well.

    `unknown` says why spool and database do not belong together; empty if they do. `standing` is what differs
    between config.yaml, the version that runs, and the processes.
    """
    said = [
        *([Finding(True, unknown)] if unknown else []),
        *_processes(view),
        *(Finding(one.problem, one.text) for one in standing),
        *_space(space),
        *unregistered_findings(space, view.now),
        *_damaged(space),
        *_destinations(view),
        *_unanswered(view),
        *_dead(view),
        *_unserved(view),
        *_waiting(view),
        *_results(view),
        *_repeats(view),
        *_faults(view),
    ]
    return sorted(said, key=lambda finding: not finding.problem)


def figure(count: int, *, exact: bool = True) -> str:
    """Return a count for people, with `more than` where counting stopped early."""
    return f"{count:,}" if exact else f"more than {count:,}"


def state_of(destination: DestinationState) -> str:
    """Return the state of a destination in a few words."""
    if destination.paused:
        return "paused"
    if destination.breaker == "closed" and not destination.is_tried:
        return "up"
    return "takes no C-STORE" if destination.probe_by_store else "away"


def waiting(view: Overview, route: Route) -> str:
    """Return how many instances wait on a route, for people."""
    exact = all(c.exact for c in view.counts if c.route is route)
    return figure(view.waiting(route), exact=exact)


def waiting_for(view: Overview, target: Target) -> str:
    """Return how many instances wait for a target, for people."""
    exact = all(c.exact for c in view.counts if _is_to(c, target))
    return figure(view.waiting(target.route, target.name), exact=exact)


def _processes(view: Overview) -> Iterator[Finding]:
    if not view.receivers:
        yield Finding(
            True,
            "No Storage SCP is connected to this database, so no images can be received; start it: "
            "`mini-pacs serve`",
        )
    served = {name for consumer in view.consumers if consumer.alive for name in consumer.queue_names}
    for queue in (*view.routes, "sweep"):
        if queue not in served:
            wait = (
                f"{waiting(view, Route(queue))} deliveries wait"
                if queue in set(Route)
                else "lost messages and files are not repaired"
            )
            yield Finding(
                True,
                f"No actor process serves the queue {queue}: {wait}; start one: `dramatiq actors -Q {queue}`",
            )
    if not view.sweeps:
        yield Finding(
            True,
            "The sweep never ran, so lost messages and files are not repaired. Start the scheduler: "
            "`periodiq actors`; run the sweep once: `mini-pacs sweep`",
        )
    elif (last := max(run.ran_at for run in view.sweeps)) < view.now - SWEEP_LATE:
        yield Finding(
            True,
            f"The sweep ran last {since(last, view.now)} ago, and should run each minute: lost messages and "
            "files are not repaired. Start the scheduler: `periodiq actors`; run the sweep once: "
            "`mini-pacs sweep`",
        )


def _space(space: Space | None) -> Iterator[Finding]:
    if space is not None and space.free_bytes <= space.reserve_bytes:
        yield Finding(
            True,
            f"The spool's disk is at its reserve ({space.free_bytes >> 20} MiB free, edge.disk_reserve_mb is "
            f"{space.reserve_bytes >> 20}): senders are rejected until space is free; no image is lost. Free "
            "space, or lower sweep.retention_hours and run `mini-pacs sweep purge`",
        )


def unregistered_findings(space: Space | None, now: datetime) -> Iterator[Finding]:
    """Yield what is wrong with the receptions that are not registered; this needs no database."""
    if space is None:
        return
    since_then = space.unregistered_since
    if since_then is not None and now - since_then > UNREGISTERED_LONG:
        count = figure(space.unregistered, exact=space.unregistered < space.limit)
        yield Finding(
            True,
            f"{count} receptions are acknowledged and not registered, the oldest for "
            f"{since(since_then, now)}: they are safe in the spool, and are delivered once PostgreSQL has "
            "their rows. The log has the reason (stage db). Start PostgreSQL, or `mini-pacs serve`",
        )
    if space.refused:
        yield Finding(
            True,
            f"{space.refused} receptions are acknowledged, and PostgreSQL refuses to register them; their "
            "files are in failed/ and are never purged. The log has the reason (outcome not_registrable). "
            "They are tried again when `mini-pacs serve` starts",
        )


def _damaged(space: Space | None) -> Iterator[Finding]:
    count = 0 if space is None else space.files.get(DAMAGED, 0)
    if space is not None and count:
        folder = f"{space.root}/{DAMAGED}"
        yield Finding(
            True,
            f"{figure(count, exact=count < space.limit)} files in {folder} do not hold the bytes that were "
            "received; their instances are not delivered. Purge never removes them. Let the modality send "
            "these instances again (the file names are their SOP Instance UIDs), or send what a file holds: "
            f"`mini-pacs send {folder}/STUDY/FILE`; then remove the files",
        )


def _destinations(view: Overview) -> Iterator[Finding]:
    workers = [d for d in view.destinations if d.route is Route.WORKERS]
    open_workers = sum(d.is_open_for_work for d in workers)
    for destination in view.destinations:
        if destination.is_open_for_work:
            yield from _takes_some(view, destination)
            continue
        if destination.route.is_archive:
            archive = Target(destination.route, destination.ae_title)
            effect = f"{waiting_for(view, archive)} instances wait; nothing is lost"
        elif open_workers:
            effect = f"the other {open_workers} of {len(workers)} workers get its images"
        else:
            effect = (
                f"no worker can be reached: {waiting(view, Route.WORKERS)} instances wait; nothing is lost"
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
    return (
        f"{title} {_what(destination)} since {ago}: {_reason(view, destination)}; {effect};{probe} "
        f"`mini-pacs destinations echo {title}`"
    )


def _what(destination: DestinationState) -> str:
    if not destination.probe_by_store:
        return "is away"
    if destination.answers is None:
        return "takes no C-STORE"
    return f"answers {destination.answers} but takes no C-STORE"


def _reason(view: Overview, destination: DestinationState) -> str:
    """Return why a destination gets nothing; add the time of the reason if it is newer than the state."""
    reason = destination.reason or "no answer"
    changed = destination.reason_at
    if changed is None or changed <= destination.changed_at + NEWER_REASON:
        return reason
    return f"{reason}, since {moment(changed)} ({since(changed, view.now)})"


def _takes_some(view: Overview, destination: DestinationState) -> Iterator[Finding]:
    title = destination.ae_title
    if destination.is_tried:
        ago = f"{moment(destination.changed_at)} ({since(destination.changed_at, view.now)})"
        yield Finding(
            True,
            f"{title} {_what(destination)} since {ago}: {_reason(view, destination)}; it is tried with one "
            f"instance at a time; `mini-pacs destinations echo {title}`",
        )
    elif destination.suspects and destination.failures_in_row and _has_waiting(view, destination):
        # Its last attempts all failed. Failures of one study alone do not open the breaker.
        yield Finding(
            True,
            f"{title} took nothing since it broke the association over {destination.suspects:,} instances: "
            f"{_reason(view, destination)}; {_waiting_at(view, destination)} instances wait; nothing is "
            f"lost; `mini-pacs destinations echo {title}`",
        )
    elif destination.suspects:
        yield Finding(
            False,
            f"{title} broke the association during {destination.suspects:,} instances in the last 10 "
            "minutes: they and their studies share one association, all others are sent as usual; "
            "`mini-pacs deliveries list --state pending`",
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
    sent_to = {d.ae_title for d in view.destinations if d.is_open_for_work and not d.is_tried}
    for one in unanswered(view):
        if one.ae_title in sent_to:  # `_destinations` says what is wrong with the others
            what = "1 instance" if one.count == 1 else f"{one.count:,} instances"
            others = "it takes others" if one.takes_others else "it took nothing since"
            yield Finding(
                not one.takes_others,
                f"{one.ae_title} has not answered {what}, the oldest for {span(one.oldest.total_seconds())}; "
                f"{others}; nothing is lost: after timeout_s they are tried again; "
                f"`mini-pacs destinations echo {one.ae_title}`",
            )


def _dead(view: Overview) -> Iterator[Finding]:
    for target in view.targets:
        dead = [c for c in view.counts if _is_to(c, target) and c.state is State.DEAD]
        if not dead:
            continue
        count = figure(dead[0].count, exact=dead[0].exact)
        reason = next((r for r in view.dead_reasons if _is_to(r, target)), None)
        why = ""
        if reason is not None:
            show = f"`mini-pacs deliveries show {reason.delivery_id}`"
            why = f", mostly: {reason.reason or 'no reason'} ({show})"
        yield Finding(
            True,
            f"{count} deliveries to {target.queue} are dead{why}; their files are in failed/; when the "
            f"cause is repaired: `mini-pacs deliveries retry --state dead {option_of(target)}`, "
            "else `mini-pacs deliveries cancel --state dead`",
        )
    if view.dead_messages:
        reason_text = "" if view.dead_message is None else f", the last: {view.dead_message.reason}"
        yield Finding(
            True,
            f"{view.dead_messages:,} messages are dead{reason_text}; `mini-pacs queue dead` lists them; "
            "`mini-pacs queue requeue ID` runs one again, `mini-pacs queue discard ID` deletes it",
        )


def _unserved(view: Overview) -> Iterator[Finding]:
    for one in view.unserved:
        if route_of_queue(one.queue_name) is None and one.queue_name != "sweep":  # `_processes` reports those
            yield Finding(True, unserved_text(one))


def unserved_text(one: Unserved) -> str:
    """Say that no process consumes a queue, and what to type."""
    name = printable(one.queue_name, 100)
    return (
        f"No process consumes the queue {name}: {one.due:,} messages are due, the oldest for "
        f"{span(one.oldest_seconds)}; start one (`dramatiq MODULE -Q {name}`), or delete them: "
        f"`mini-pacs queue discard --queue {name}`"
    )


def _waiting(view: Overview) -> Iterator[Finding]:
    for oldest in view.oldest:
        target = Target(oldest.route, oldest.target)
        if not view.is_configured(target):
            yield Finding(True, _not_configured(view, target))
            continue
        peers = [
            d
            for d in view.destinations
            if d.route is oldest.route and (d.route is Route.WORKERS or d.ae_title == oldest.target)
        ]
        is_open = any(peer.is_open_for_work for peer in peers) or not peers
        if is_open and oldest.owed_since < view.now - WAITS_LONG:
            reason = f": {oldest.reason}" if oldest.reason else ""
            yield Finding(
                False,
                f"Delivery {oldest.delivery_id} to {target.queue} waits for "
                f"{since(oldest.owed_since, view.now)}{reason}; "
                f"`mini-pacs deliveries show {oldest.delivery_id}`",
            )


def _not_configured(view: Overview, target: Target) -> str:
    what = "archive" if target.route.is_archive else "application"
    return (
        f"{waiting_for(view, target)} instances wait for the {what} {target.name}, which config.yaml does "
        f"not name; nothing is lost; name it again, or give them up: `mini-pacs deliveries cancel "
        f"{option_of(target)}`"
    )


def _is_to(row: Count | DeadReason, target: Target) -> bool:
    return row.route is target.route and row.target == target.name


def option_of(target: Target) -> str:
    """Return the options that select the deliveries to a target."""
    only = target.queue == target.route.value
    return f"--route {target.route.value}" + ("" if only else f" --target '{target.name}'")


def _results(view: Overview) -> Iterator[Finding]:
    results = view.results
    if results.given_up:
        yield Finding(
            False,
            f"{results.given_up:,} instances got no result from any worker; the PACS gets their originals "
            "all the same; to ask again: `mini-pacs deliveries resend --route workers --study UID`",
        )
    for count, what in (
        (results.unmatched, "match no instance here"),
        (results.ambiguous, "match several instances"),
    ):
        if count:
            yield Finding(False, f"{count:,} results {what}; the PACS gets them all the same")


def _repeats(view: Overview) -> Iterator[Finding]:
    repeats = view.unforwarded
    if repeats is not None:
        yield Finding(
            False,
            f"{repeats.count:,} instances were sent again and not forwarded, the last "
            f"{since(repeats.at, view.now)} ago by {repeats.calling_ae_title}: they were delivered before "
            "(edge.duplicate_window_seconds); where the PACS lacks them: "
            f"`mini-pacs deliveries resend --route pacs --study {repeats.study_instance_uid}`",
        )


def _faults(view: Overview) -> Iterator[Finding]:
    for fault in view.faults:
        until = "until it is cleared" if fault.until is None else f"until {moment(fault.until)}"
        yield Finding(
            True,
            f"Fault {fault.name} is injected by {fault.injected_by} {until}; "
            f"`mini-pacs clear-faults {fault.name}`",
        )
