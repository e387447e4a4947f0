"""`mini-pacs destinations`: list the PACS and the workers; echo, pause and resume them."""

from datetime import timedelta
from typing import Annotated, NoReturn

import typer

from cli.advice import RefusedError
from cli.documents import Json, Schema, print_document, print_page
from cli.exit_codes import ExitCode
from cli.flow import flow
from cli.operator import configured, opened, operator
from cli.screen import console, table
from gateway.config import Configuration
from gateway.database.tables import destinations
from gateway.database.tables.destinations import DestinationState
from gateway.diagnosis.counts import state_of
from gateway.domain.routing import Route
from gateway.errors import StaleError
from gateway.operate import destinations as use_cases
from gateway.operate.destinations import LONGEST_PAUSE, Echo, Paused
from gateway.times import clock, dated, duration_of, span

app = typer.Typer(help="List the PACS and the workers; echo, pause or resume them.", no_args_is_help=True)
app.command()(flow)
Title = Annotated[str, typer.Argument(metavar="AE", help="AE title of a destination.", show_default=False)]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the destinations: whether they can be reached, their failures, and the results they owe."""
    with opened("destinations") as database, database.statement() as session:
        states = destinations.states(session)
    if as_json:
        items = [state._asdict() | {"is_open_for_work": state.is_open_for_work} for state in states]
        print_page(Schema.DESTINATIONS, items)
        return
    if not states:
        typer.echo(
            "The database has no destination yet: `mini-pacs serve` enters those of config.yaml at its start."
        )
        return
    columns = ("AE title", "route", "state", "since", "failures", "next probe", "owes", "reason")
    rows = table(*columns, title=dated("Destinations"))
    for one in states:
        rows.add_row(
            one.ae_title,
            one.route.value,
            _state(one),
            clock(one.changed_at),
            str(one.failures_in_row),
            clock(one.next_probe_at),
            f"{one.outstanding}/{one.max_outstanding}" if one.route is Route.WORKERS else "",
            (one.pause_reason if one.paused else one.reason) or "",
        )
    console().print(rows)


@app.command()
def echo(
    ae_titles: Annotated[
        list[str] | None, typer.Argument(metavar="[AE]...", help="AE titles; without any, every destination.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Send a C-ECHO to destinations, with the AE title of the edge. Exit code 3 where one does not answer."""
    configuration = configured()
    known = [d.ae_title for d in configuration.destinations]
    for ae_title in ae_titles or ():
        if ae_title not in known:
            _unknown(ae_title, known)
    answers = [use_cases.echo(configuration, ae_title) for ae_title in ae_titles or known]
    if as_json:
        print_page(Schema.ECHOES, answers)
    else:
        _print_answers(answers)
    if not all(answer.well for answer in answers):
        raise typer.Exit(ExitCode.UNREACHABLE)


@app.command()
def pause(
    ae_title: Title,
    duration: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="TIME",
            help="How long: 30m, 2h, 1d; without this option until `resume`.",
            show_default=False,
        ),
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Why, for those who see the pause.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Send nothing to a destination until `resume`, or for a time.

    Its deliveries wait and use up no attempts. A paused destination gets a new reason or a new end with --for
    and --reason.
    """
    lasting = None if duration is None else _lasting(duration)
    configuration = configured()
    _check(configuration, ae_title)
    with opened("destinations", changes=True) as database:
        try:
            done = use_cases.pause(
                database, configuration, ae_title, operator(), reason=reason, lasting=lasting
            )
        except StaleError as error:
            raise RefusedError(str(error)) from error
    until = f"for {duration}, or until" if duration else "until"
    sentences = {
        Paused.BEGUN: f"{ae_title} is paused: its deliveries wait {until} "
        f"`mini-pacs destinations resume {ae_title}`.",
        Paused.CHANGED: f"{ae_title} was paused already. Now its deliveries wait {until} "
        f"`mini-pacs destinations resume {ae_title}`.",
        Paused.NOT_CHANGED: f"{ae_title} was paused already.",
    }
    _print_change(ae_title, sentences[done], changed=done is not Paused.NOT_CHANGED, as_json=as_json)


@app.command()
def resume(ae_title: Title, as_json: Json = False) -> None:
    """End a pause; close an open breaker. Use it if you know that the peer is back."""
    configuration = configured()
    _check(configuration, ae_title)
    with opened("destinations", changes=True) as database:
        changed = use_cases.resume(database, configuration, ae_title, operator())
    _print_change(
        ae_title,
        f"{ae_title} gets its deliveries again; `mini-pacs status` shows what follows."
        if changed
        else f"Nothing to do: {ae_title} is neither paused nor away.",
        changed=changed,
        as_json=as_json,
    )


def _state(one: DestinationState) -> str:
    if not one.paused:
        return state_of(one)
    until = "" if one.paused_until is None else f" until {clock(one.paused_until)}"
    return f"paused by {one.paused_by}{until}"


def _print_answers(answers: list[Echo]) -> None:
    rows = table("AE title", "address", "answer", "took", "error")
    for answer in answers:
        word = "well" if answer.well else "none"
        rows.add_row(answer.ae_title, answer.address, word, span(answer.seconds), answer.error or "")
    console().print(rows)


def _lasting(text: str) -> timedelta:
    try:
        return duration_of(text, LONGEST_PAUSE)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--for") from error


def _check(configuration: Configuration, ae_title: str) -> None:
    known = [d.ae_title for d in configuration.destinations]
    if ae_title not in known:
        _unknown(ae_title, known)


def _unknown(ae_title: str, known: list[str]) -> NoReturn:
    raise typer.BadParameter(f"{ae_title} is not a destination; config.yaml names {', '.join(known)}")


def _print_change(ae_title: str, sentence: str, *, changed: bool, as_json: bool) -> None:
    if as_json:
        print_document(Schema.CHANGED_DESTINATION, {"ae_title": ae_title, "changed": changed})
    else:
        typer.echo(sentence)
