"""Whether images move: deliveries that nothing takes, peers that are too slow, workers without results."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from gateway.config import Configuration
from gateway.database.tables.overview import Overview
from gateway.database.tables.progress import WINDOW, Due, Progress, WorkerResults
from gateway.database.tables.queues import Flow
from gateway.diagnosis.counts import waiting
from gateway.diagnosis.destinations import holds_of
from gateway.diagnosis.finding import Finding, Holds, note, problem
from gateway.domain.flow import BUSY, MANY
from gateway.domain.routing import Route
from gateway.times import moment, since, span

STANDS = timedelta(seconds=60)
"""A delivery is claimed within a second after it is due; this must exceed a restart of all processes."""
MISSING = 3


def progress(view: Overview, seen: Progress, configuration: Configuration) -> Iterator[Finding]:
    """Yield what does not move, or moves too slowly."""
    flows = {flow.queue_name: flow for flow in seen.flows}
    for due in seen.due:
        yield from _route(view, due, flows.get(due.route.value))
    patience = timedelta(seconds=max(30.0, 3 * configuration.forwarder.worker_timeout_seconds))
    for worker in seen.workers:
        yield from _worker(view, worker, patience)


def _route(view: Overview, due: Due, flow: Flow | None) -> Iterator[Finding]:
    peers = [d for d in view.destinations if d.route is due.route]
    if due.since is None or view.now - due.since < STANDS or not any(d.is_open_for_work for d in peers):
        return  # where every peer is closed, `destinations` says why
    last = _last_answer(view, due.route)
    if last is None or view.now - last > STANDS:
        yield _stands(view, due, last)
    elif view.waiting(due.route) >= MANY and flow is not None and flow.done:
        yield _slow(view, due.route, flow)


def _last_answer(view: Overview, route: Route) -> datetime | None:
    titles = {d.ae_title for d in view.destinations if d.route is route}
    return max((one.last_at for one in view.answers if one.ae_title in titles), default=None)


def _stands(view: Overview, due: Due, last: datetime | None) -> Finding:
    assert due.since is not None
    when = "nothing was ever delivered" if last is None else f"the last one was delivered at {moment(last)}"
    return problem(
        f"progress.stands:{due.route.value}",
        f"{waiting(view, due.route)} deliveries to {due.route.value} wait, the first is due for "
        f"{since(due.since, view.now)}, and {when}",
        "nothing moves on this route; nothing is lost",
        f"`mini-pacs queue` shows the actor processes: restart `dramatiq actors -Q {due.route.value}`; its "
        "log says what it waits for",
        since=due.since,
        holds=holds_of(due.route),
    )


def _slow(view: Overview, route: Route, flow: Flow) -> Finding:
    minutes = WINDOW.total_seconds() / 60
    arrive, leave = flow.arrived / minutes, flow.done / minutes
    count = view.waiting(route)
    mean = flow.seconds / flow.done
    threads = sum(c.threads for c in view.consumers if c.alive and route.value in c.queue_names)
    share = flow.seconds / (WINDOW.total_seconds() * threads) if threads else 0.0
    names = ", ".join(d.ae_title for d in view.destinations if d.route is route and d.is_open_for_work)
    whose = (
        f"each send takes {span(mean)}, and the {threads} threads are busy for {share:.0%} of the time: "
        + (f"{names} is the bottleneck" if share > BUSY else "the edge itself is the bottleneck")
    )
    text = (
        f"{waiting(view, route)} deliveries to {route.value} wait; {arrive:.0f} a minute arrive and "
        f"{leave:.0f} are delivered; {whose}"
    )
    remedy = (
        f"make {names} faster" if share > BUSY else "look at CPU and disk of this host (`top`, `iostat`)"
    ) + f", or start another `dramatiq actors -Q {route.value}`"
    if leave > arrive:
        drain = span(60 * count / (leave - arrive))
        return note(
            f"progress.drains:{route.value}", text, f"drained in about {drain}", remedy, holds=Holds.SOME
        )
    return problem(
        f"progress.slow:{route.value}",
        text,
        "the backlog grows, and images come later and later; nothing is lost",
        remedy,
        holds=holds_of(route),
    )


def _worker(view: Overview, one: WorkerResults, patience: timedelta) -> Iterator[Finding]:
    state = next((d for d in view.destinations if d.ae_title == one.worker), None)
    if state is None or not state.is_open_for_work or one.since is None:
        return
    waited = view.now - one.since
    if one.missing < MISSING or waited < patience:
        return
    yield problem(
        f"worker.silent:{one.worker}",
        f"{one.worker} was asked {one.missing} times since {moment(one.since)} and returned no result",
        "it answers C-STORE; other workers are asked instead, and then the results are given up",
        f"look into the log of {one.worker}: does it call the edge, under which AE title? "
        "(calling_ae_titles of the worker); `mini-pacs destinations pause "
        f"{one.worker}` takes it out",
        since=one.since,
        holds=Holds.WORKERS,
    )
