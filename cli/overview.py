"""`mini-pacs status` without a study: the whole edge on one screen, with the findings of `diagnose`."""

from typing import NoReturn

import typer
from rich.console import Console

from cli.advice import RefusedError
from cli.documents import Schema, print_document
from cli.exit_codes import ExitCode
from cli.operator import configured
from cli.screen import console, table
from gateway.database.dsn import dsn_from_environment
from gateway.database.tables.overview import WINDOW, OldestWaiting, Overview
from gateway.diagnosis.counts import figure, state_of
from gateway.diagnosis.examine import examine
from gateway.diagnosis.finding import Finding
from gateway.diagnosis.gather import Gathered
from gateway.diagnosis.processes import actors
from gateway.diagnosis.spool import Space
from gateway.domain.delivery import State
from gateway.domain.routing import Route
from gateway.domain.unit import UnitState
from gateway.errors import DatabaseUnavailableError, UnknownSpoolError
from gateway.times import clock, dated, since, span

READ_SECONDS = 15.0
"""Limit of one statement; must exceed the slowest one on a busy database with a million deliveries."""
NAGIOS_WARNING, NAGIOS_CRITICAL = 1, 2


def show(*, check: bool, nagios: bool, as_json: bool) -> None:
    """Examine the edge and print it: with `check` problems only, with `nagios` the lines of a plugin."""
    configuration = configured()
    seen = examine(configuration, dsn_from_environment(), read_seconds=READ_SECONDS)
    gathered, found = seen.gathered, seen.findings
    if nagios:
        _end_for_nagios(found)
    if gathered.view is None:
        _raise(gathered, as_json=as_json)
    view, space = gathered.view, gathered.space
    said = [finding for finding in found if finding.problem] if check else found
    if as_json:
        well = not any(f.problem for f in said)
        documents = [finding.document() for finding in said]
        print_document(Schema.STATUS, {"well": well, "findings": documents, "spool": space, "overview": view})
    else:
        screen = console()
        if not check:
            _print(screen, view, space)
        _say(screen, said)
    if check and said:
        raise typer.Exit(ExitCode.REFUSED)


def _raise(gathered: Gathered, *, as_json: bool) -> NoReturn:
    """Print what is known without PostgreSQL, and end with the error."""
    error = gathered.error
    assert error is not None, "without rows there is an error"
    if isinstance(error, UnknownSpoolError):
        raise RefusedError(str(error)) from error
    if isinstance(error, DatabaseUnavailableError) and gathered.space is not None and not as_json:
        count = gathered.space.unregistered
        typer.echo(f"PostgreSQL cannot be reached. Receptions not registered: {count:,}", err=True)
    raise error


def _end_for_nagios(found: list[Finding]) -> NoReturn:
    """Print one line and end with the exit code that Nagios, Icinga and Checkmk expect of a plugin."""
    problems = [one for one in found if one.problem]
    if problems:
        word, code = "CRITICAL", NAGIOS_CRITICAL
    elif found:
        word, code = "WARNING", NAGIOS_WARNING
    else:
        word, code = "OK", ExitCode.OK
    first = f": {found[0].what}" if found else ": all is well"
    typer.echo(f"MINI-PACS {word} - {len(problems)} problems, {len(found) - len(problems)} notes{first}")
    for one in found:
        typer.echo(one.text)
    raise typer.Exit(code)


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
    if view.units:
        _line(screen, "Units", _units(view))
    minutes = WINDOW.total_seconds() / 60
    done = ", ".join(f"{r.queue_name} {r.done / minutes:.0f}" for r in view.rates) or "nothing"
    received = f"received {view.received_last_minute:,} in the last minute"
    _line(screen, "Rates", f"{received}; done per minute, over {minutes:.0f}: {done}")
    scp = "connected" if view.receivers else "not connected"
    _line(screen, "Running", f"Storage SCP: {scp}; actor processes by queue: {actors(view)}")
    _line(screen, "Spool", _files(space))
    runs = ", ".join(f"{run.verb} {since(run.ran_at, view.now)} ago" for run in view.sweeps)
    _line(screen, "Sweep", f"{runs or 'never ran'}\n")


UNIT_WORDS = {
    UnitState.COLLECTING: "collecting",
    UnitState.COMPLETE: "waiting for a worker",
    UnitState.SENDING: "being sent",
    UnitState.SENT: "owed a result",
}


def _units(view: Overview) -> str:
    """Return `chest-ct: collecting 3, owed a result 1`, for each application."""
    counts = {(one.application, one.state): one.units for one in view.units}
    texts = []
    for name in dict.fromkeys(one.application for one in view.units):
        states = [
            f"{word} {counts[name, state]:,}" for state, word in UNIT_WORDS.items() if (name, state) in counts
        ]
        texts.append(f"{name}: {', '.join(states)}")
    return "; ".join(texts)


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
    if any(count.state is State.COLLECTING for count in view.counts):
        states.insert(0, State.COLLECTING)
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
