"""`mini-pacs status`: one screen with what waits, what is wrong, and what to do next."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from cli import study
from cli.advice import RefusedError
from cli.documents import Json, Schema, print_document
from cli.exit_codes import ExitCode
from cli.findings import Finding, Space, figure, findings, state_of
from cli.operator import configured, opened
from cli.screen import console, table
from cli.times import clock, dated, since, span
from gateway.database.session import Session
from gateway.database.tables import configurations, processes, spools
from gateway.database.tables.overview import WINDOW, OldestWaiting, Overview, overview
from gateway.domain.delivery import State
from gateway.domain.instance import Place
from gateway.domain.routing import Route
from gateway.errors import DatabaseUnavailableError, SpoolError, UnknownSpoolError
from gateway.processes.removed import owed_to_removed
from gateway.processes.standing import disagreements
from gateway.register.unregistered import backlog, refused_count
from gateway.spool.identity import SpoolIdentity
from gateway.spool.places import DAMAGED, ORPHANED
from gateway.spool.spool import Spool

if TYPE_CHECKING:
    from gateway.config import Configuration  # slow to import

FILE_LIMIT = 10_000
"""Count the files of a folder up to this number. It takes a tenth of a second if each study has one file."""


def status(
    study_uid: Annotated[
        str | None,
        typer.Option("--study", metavar="UID", help="Show the steps of each instance of a study instead."),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="With --study: how many instances to show one by one.")
    ] = 20,
    check: Annotated[
        bool, typer.Option("--check", help="Print problems only; exit code 1 if there is one.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show on one screen what waits, what is wrong, and what to do next.

    Exit codes: 0 always, except: 1 with --check if there is a problem, with --study if no instance of it is
    kept; 3 if PostgreSQL cannot be reached. Then it prints how many receptions are unregistered.
    """
    if study_uid is not None:
        study.show(study_uid, limit, as_json=as_json)
        return
    configuration = configured()
    space = _space(configuration)
    try:
        with opened("status") as database, database.statement() as session:
            unknown = _why_unknown(configuration, session)
            view = overview(session, lease=timedelta(seconds=configuration.forwarder.lease_seconds))
            standing = disagreements(
                configuration,
                configurations.taken(session),
                processes.processes(session),
                owed_to_removed(session, configuration),
            )
    except DatabaseUnavailableError:
        if space is not None and not as_json:
            typer.echo(
                f"PostgreSQL cannot be reached. Receptions not registered: {space.unregistered:,}", err=True
            )
        raise
    said = findings(view, space, unknown, standing)
    if check:
        said = [finding for finding in said if finding.problem]
    if as_json:
        well = not any(f.problem for f in said)
        print_document(Schema.STATUS, {"well": well, "findings": said, "spool": space, "overview": view})
    else:
        screen = console()
        if not check:
            _print(screen, view, space)
        _say(screen, said)
    if check and said:
        raise typer.Exit(ExitCode.REFUSED)


def _why_unknown(configuration: "Configuration", session: Session) -> str:
    """Return why spool and database do not belong together; empty if they do, or are not paired yet.

    Raises:
        RefusedError: the database has no schema to show, for example because it was lost.
    """
    pair = SpoolIdentity(configuration.edge.data_root)
    if not pair.root.exists():
        return ""  # not on this host
    try:
        pair.require_possible(session)
    except UnknownSpoolError as error:
        if not spools.has_schema(session):
            raise RefusedError(str(error)) from error
        return str(error)
    return ""


def _space(configuration: "Configuration") -> Space | None:
    """Measure the spool; return None where it is not on this host, or not readable."""
    spool = Spool(configuration.edge.data_root)
    try:
        free = spool.free_bytes()
        files = {str(name): spool.count(name, FILE_LIMIT) for name in (*Place, ORPHANED, DAMAGED)}
        waiting = backlog(spool, FILE_LIMIT)
        refused = refused_count(spool)
    except (SpoolError, OSError):
        return None
    return Space(
        free,
        configuration.edge.disk_reserve_mb << 20,
        files,
        FILE_LIMIT,
        str(spool.root),
        waiting.count,
        waiting.oldest,
        refused,
    )


def _say(screen: Console, said: list[Finding]) -> None:
    if not said:
        screen.print("All is well.", style="green")
    for finding in said:
        screen.print("!" if finding.problem else "·", style="red" if finding.problem else "yellow", end=" ")
        screen.print(finding.text, soft_wrap=True)


def _print(screen: Console, view: Overview, space: Space | None) -> None:
    _print_deliveries(screen, view)
    _print_destinations(screen, view)
    results = view.results
    screen.print()
    _line(
        screen,
        "Results",
        f"owed {results.owed:,}, late {results.late:,}, timed out {results.timed_out:,}, "
        f"given up {results.given_up:,}, unmatched {results.unmatched:,}, ambiguous {results.ambiguous:,}",
    )
    minutes = WINDOW.total_seconds() / 60
    done = ", ".join(f"{r.queue_name} {r.done / minutes:.0f}" for r in view.rates) or "nothing"
    received = f"received {view.received_last_minute:,} in the last minute"
    _line(screen, "Rates", f"{received}; done per minute, over {minutes:.0f}: {done}")
    alive = [c for c in view.consumers if c.alive]
    queues = ", ".join(
        f"{queue} {sum(queue in c.queue_names for c in alive)}" for queue in (*view.routes, "sweep")
    )
    scp = "connected" if view.receivers else "not connected"
    _line(screen, "Running", f"Storage SCP: {scp}; actor processes by queue: {queues}")
    _line(screen, "Spool", _files(space))
    runs = ", ".join(f"{run.verb} {since(run.ran_at, view.now)} ago" for run in view.sweeps)
    _line(screen, "Sweep", f"{runs or 'never ran'}\n")


def _line(screen: Console, name: str, text: str) -> None:
    screen.print(name.ljust(9), style="bold", end="")
    screen.print(text, soft_wrap=True)


def _files(space: Space | None) -> str:
    if space is None:
        return "not on this host, or not readable"
    files = ", ".join(
        f"{name} {figure(count, exact=count < space.limit)}" for name, count in space.files.items()
    )
    free, reserve = space.free_bytes >> 20, space.reserve_bytes >> 20
    unregistered = figure(space.unregistered, exact=space.unregistered < space.limit)
    return f"{free:,} MiB free, reserve {reserve:,} MiB; unregistered {unregistered}; files: {files}"


def _print_deliveries(screen: Console, view: Overview) -> None:
    settled = next((c for c in view.counts if c.state is None), None)
    states = [State.PENDING, State.IN_FLIGHT, State.DEAD]
    title = "Deliveries"
    if settled is None:
        states += [State.DELIVERED, State.CANCELLED]
    else:
        title += f" (and about {settled.count:,} settled)"
    rows = table("target", *(state.value for state in states), "oldest waiting", title=title)
    for target in view.targets:
        key = (target.route, target.name)
        counts = {c.state: figure(c.count, exact=c.exact) for c in view.counts if (c.route, c.target) == key}
        oldest = next((w for w in view.oldest if (w.route, w.target) == key), None)
        rows.add_row(target.queue, *(counts.get(state, "0") for state in states), _oldest(view, oldest))
    screen.print(rows)


def _oldest(view: Overview, oldest: OldestWaiting | None) -> str:
    if oldest is None:
        return ""
    when = ""
    if oldest.next_attempt_at is not None and oldest.next_attempt_at > view.now:
        when = f", next in {span((oldest.next_attempt_at - view.now).total_seconds())}"
    # While the breaker is open, the destination has a newer reason than the last attempt.
    newer = (d.reason for d in view.destinations if d.ae_title == oldest.destination and d.breaker == "open")
    why = next(newer, None) or oldest.reason
    reason = f": {why}" if why else ""
    return f"{since(oldest.owed_since, view.now)}, delivery {oldest.delivery_id}{when}{reason}"


def _print_destinations(screen: Console, view: Overview) -> None:
    rows = table("destination", "route", "state", "since", "owes", "reason", title=dated("\nDestinations"))
    for d in view.destinations:
        state = state_of(d)
        owes = f"{d.outstanding}/{d.max_outstanding}" if d.route is Route.WORKERS else ""
        rows.add_row(d.ae_title, d.route.value, state, clock(d.changed_at), owes, d.reason or "")
    screen.print(rows)
