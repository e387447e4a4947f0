"""Which processes should run and do not: receivers, actor processes by queue, the scheduler of the sweep."""

from collections.abc import Iterator
from datetime import timedelta

from gateway.database.tables.overview import Overview, Unserved
from gateway.diagnosis.counts import waiting
from gateway.diagnosis.finding import Finding, Holds, problem
from gateway.domain.identifiers import printable
from gateway.domain.routing import Route, route_of_queue
from gateway.times import since, span

SWEEP_LATE = timedelta(minutes=3)
"""After this time the sweep is late. It runs each minute; this must exceed a slow run."""
SWEEP = "sweep"


def processes(view: Overview) -> Iterator[Finding]:
    """Yield a finding for each kind of process that does not run."""
    if not view.receivers:
        yield problem(
            "processes.receiver",
            "No Storage SCP is connected to this database",
            "no images can be received",
            "start it: `mini-pacs serve`",
            holds=Holds.ALL,
        )
    for route in view.routes:
        if not actors_of(view, route):
            yield _without_actors(view, route)
    if not actors_of(view, None):
        yield problem(
            f"processes.actors:{SWEEP}",
            f"No actor process serves the queue {SWEEP}",
            "lost messages and files are not repaired",
            f"start one: `dramatiq actors -Q {SWEEP}`",
            holds=Holds.LATER,
        )
    yield from _sweep(view)
    for one in view.unserved:
        if route_of_queue(one.queue_name) is None and one.queue_name != SWEEP:
            yield unserved(one)


def actors(view: Overview) -> str:
    """Return the count of actor processes of each route and of the sweep, for people."""
    counted = [f"{route} {actors_of(view, route)}" for route in view.routes]
    return ", ".join([*counted, f"{SWEEP} {actors_of(view, None)}"])


def actors_of(view: Overview, route: Route | None) -> int:
    """Return how many living actor processes serve a route; None stands for the queue of the sweep."""
    return sum(
        any(
            name == SWEEP if route is None else route_of_queue(name) is route for name in consumer.queue_names
        )
        for consumer in view.consumers
        if consumer.alive
    )


def _without_actors(view: Overview, route: Route) -> Finding:
    return problem(
        f"processes.actors:{route}",
        f"No actor process serves the queue {route}",
        f"{waiting(view, route)} deliveries wait",
        f"start one: `dramatiq actors -Q {route}`; if one runs, it has another DATABASE_URL, or waits at its "
        "start: its output says for what",
        holds=Holds.WORKERS if route is Route.WORKERS else Holds.PACS,
    )


def _sweep(view: Overview) -> Iterator[Finding]:
    remedy = "start the scheduler: `periodiq actors`; run the sweep once: `mini-pacs sweep`"
    means = "lost messages and files are not repaired"
    if not view.sweeps:
        yield problem("sweep.never", "The sweep never ran", means, remedy, holds=Holds.LATER)
        return
    last = max(run.ran_at for run in view.sweeps)
    if last < view.now - SWEEP_LATE:
        yield problem(
            "sweep.late",
            f"The sweep ran last {since(last, view.now)} ago, and should run each minute",
            means,
            remedy,
            since=last,
            holds=Holds.LATER,
        )


def unserved(one: Unserved) -> Finding:
    """Say that no process consumes a queue, and what to type."""
    name = printable(one.queue_name, 100)
    return problem(
        f"processes.queue:{name}",
        f"No process consumes the queue {name}: {one.due:,} messages are due, the oldest for "
        f"{span(one.oldest_seconds)}",
        "the work of these messages is not done",
        f"start one (`dramatiq MODULE -Q {name}`), or delete them: `mini-pacs queue discard --queue {name}`",
        holds=Holds.SOME,
    )
