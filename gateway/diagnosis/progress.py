"""Whether images move: deliveries that nothing takes, peers that are too slow, workers without results."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from gateway.config import Configuration
from gateway.database.tables.destinations import DestinationState
from gateway.database.tables.overview import Overview
from gateway.database.tables.progress import LAST_RESULTS, Progress, WorkerResults
from gateway.diagnosis.counts import option_of, waiting_for
from gateway.diagnosis.destinations import holds_of
from gateway.diagnosis.finding import Finding, Holds, note, problem
from gateway.diagnosis.peer import key_of
from gateway.domain.flow import BUSY, MANY, TargetFlow
from gateway.domain.routing import Route, Target
from gateway.times import moment, since, span

STANDS = timedelta(seconds=60)
"""A delivery is claimed within a second after it is due; this must exceed a restart of all processes."""
LATE = timedelta(seconds=30)
"""A study that is due for less is a burst that a healthy archive takes."""
MISSING = 3
LATE_RESULTS = 4
"""Fewer late ones among the last results are a burst."""
CLOCK = timedelta(minutes=1)
"""Clocks that NTP sets differ by less."""
FAILURES = 10
"""Fewer failed sends in the last minute are chance."""
FAILED_SHARE = 0.1
NEAR_LIMIT = 0.7
"""From this share of its rate limit on, an archive is held back by the limit."""


def progress(view: Overview, seen: Progress, configuration: Configuration) -> Iterator[Finding]:
    """Yield what does not move, or moves too slowly."""
    flows = {Target(flow.route, flow.target): flow for flow in seen.flows}
    for due in seen.due:
        target = Target(due.route, due.target)
        if target in flows:
            limit = _limit(configuration, target)
            yield from _target(view, target, due.since, flows[target], limit)
    for flow in seen.flows:
        yield from _failing(view, flow)
    longest = timedelta(seconds=2 * configuration.forwarder.backoff_max_seconds) + CLOCK
    for last in seen.last_due:
        if last.since > view.now + longest:
            yield _ahead(Target(last.route, last.target), last.since)
    patience = timedelta(seconds=max(30.0, 3 * configuration.forwarder.worker_timeout_seconds))
    for worker in seen.workers:
        yield from _worker(view, worker, patience)
        yield from _late(view, worker)


class _Limit(NamedTuple):
    """max_instances_per_second of an archive, and its place in config.yaml."""

    rate: float
    key: str


def _limit(configuration: Configuration, target: Target) -> _Limit | None:
    for archive in configuration.forwarder.all_archives if target.route.is_archive else ():
        if archive.ae_title == target.name and archive.max_instances_per_second is not None:
            key = f"{key_of(configuration, archive.ae_title)}.max_instances_per_second"
            return _Limit(archive.max_instances_per_second, key)
    return None


def _target(
    view: Overview, target: Target, due_since: datetime, flow: TargetFlow, limit: _Limit | None
) -> Iterator[Finding]:
    late = view.now - due_since
    if not flow.is_open:
        return  # `destinations` says why
    last = _last_answer(view, target)
    if late >= STANDS and (last is None or view.now - last > STANDS):
        yield _stands(view, target, due_since, last)
    elif late >= LATE and flow.waiting >= MANY and flow.delivered_per_minute:
        yield _slow(view, target, flow, limit)


def _last_answer(view: Overview, target: Target) -> datetime | None:
    titles = {d.ae_title for d in _peers(view, target)}
    return max((one.last_at for one in view.answers if one.ae_title in titles), default=None)


def _peers(view: Overview, target: Target) -> list[DestinationState]:
    """Return the archive, or all workers: the overview does not say which application a worker is of.

    Deliveries may name the PACS by an AE title that it had before.
    """
    of_route = [d for d in view.destinations if d.route is target.route]
    return [d for d in of_route if d.ae_title == target.name] if target.route is Route.ARCHIVES else of_route


def _ahead(target: Target, until: datetime) -> Finding:
    """Say that deliveries wait longer than a retry ever does: the clock was ahead when they were tried."""
    return problem(
        f"progress.ahead:{target.queue}",
        f"Deliveries to {target.queue} wait until {moment(until)}, longer than any retry (forwarder."
        "backoff_max_seconds): when they were tried, the clock of PostgreSQL was ahead, or that key larger",
        f"they are not sent to {target.name} before that time; nothing is lost",
        f"`mini-pacs deliveries retry --state pending {option_of(target)}` sends them now; let all hosts use "
        "NTP (`chronyc tracking`)",
        holds=holds_of(target.route),
    )


def _stands(view: Overview, target: Target, due_since: datetime, last: datetime | None) -> Finding:
    when = "nothing was ever delivered" if last is None else f"the last one was delivered at {moment(last)}"
    return problem(
        f"progress.stands:{target.queue}",
        f"{waiting_for(view, target)} deliveries to {target.queue} wait, the first is due for "
        f"{since(due_since, view.now)}, and {when}",
        f"nothing moves to {target.name}; nothing is lost",
        "`mini-pacs queue` shows the actor processes: restart "
        f"`dramatiq actors -Q {target.route.value}`; its log says what it waits for",
        since=due_since,
        holds=holds_of(target.route),
    )


def _slow(view: Overview, target: Target, flow: TargetFlow, limit: _Limit | None) -> Finding:
    names = ", ".join(d.ae_title for d in _peers(view, target) if d.is_open_for_work)
    is_peer = flow.busy >= BUSY
    whose = f"{names} is the bottleneck" if is_peer else "the edge itself is the bottleneck"
    remedy = (
        f"make {names} faster, or let it accept more associations (forwarder.max_associations_per_peer)"
        if is_peer
        else "look at CPU and disk of this host (`top`, `iostat`)"
    ) + f", or start another `dramatiq actors -Q {target.route.value}`"
    if limit is not None and flow.delivered_per_minute >= NEAR_LIMIT * limit.rate * 60:
        whose = f"{limit.key} ({limit.rate:g}) holds them back"
        remedy = f"raise {limit.key}, then `mini-pacs config reload`"
    text = (
        f"{waiting_for(view, target)} deliveries to {target.queue} wait; "
        f"{flow.arrived_per_minute:.0f} a minute arrive and {flow.delivered_per_minute:.0f} are delivered; "
        f"each send takes {span(flow.mean_seconds or 0.0)}, and {flow.in_flight} are under way: {whose}"
    )
    if flow.drain_seconds is not None:
        return note(
            f"progress.drains:{target.queue}",
            text,
            f"drained in about {span(flow.drain_seconds)}",
            remedy,
            holds=Holds.SOME,
        )
    return problem(
        f"progress.slow:{target.queue}",
        text,
        "the backlog grows, and images come later and later; nothing is lost",
        remedy,
        holds=holds_of(target.route),
    )


def _failing(view: Overview, flow: TargetFlow) -> Iterator[Finding]:
    """Yield a target that takes instances, but only after several attempts."""
    attempts = flow.delivered_per_minute + flow.failed_per_minute
    if not flow.is_open or flow.failed_per_minute < max(FAILURES, FAILED_SHARE * attempts):
        return
    target = Target(flow.route, flow.target)
    reasons = [d.reason for d in _peers(view, target) if d.reason is not None]
    yield note(
        f"progress.failing:{target.queue}",
        f"{flow.failed_per_minute:.0f} of {attempts:.0f} sends to {target.name} failed in the last minute"
        + (f"; the reason last noted: {reasons[-1]}" if reasons else ""),
        "each is tried again, so its images come later; nothing is lost",
        f"`mini-pacs deliveries list --state pending {option_of(target)}` shows the reasons; look into "
        f"the log of {target.name} for the same times",
        holds=Holds.SOME,
    )


def _late(view: Overview, one: WorkerResults) -> Iterator[Finding]:
    """Yield a worker whose last results came after their deadline."""
    state = next((d for d in view.destinations if d.ae_title == one.worker), None)
    if state is None or not state.is_open_for_work or one.late < LATE_RESULTS:
        return
    yield problem(
        f"worker.late:{one.worker}",
        f"{one.late} of the last {LAST_RESULTS} results of {one.worker} came after their deadline, the "
        f"slowest after {span(one.slowest)}",
        "the PACS gets them; but other workers were asked for the same images meanwhile, or the results were "
        "given up",
        f"raise forwarder.worker_timeout_seconds (result_timeout_seconds of an application) above what "
        f"{one.worker} needs, then `mini-pacs config reload`; or make {one.worker} faster",
        holds=Holds.WORKERS,
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
