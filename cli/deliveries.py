"""`mini-pacs deliveries`: list the deliveries; retry, resend and cancel them."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cli.advice import RefusedError
from cli.delivery_options import (
    DeliveryId,
    Every,
    InState,
    OnRoute,
    Study,
    ToTarget,
    Yes,
    chosen,
    selection_of,
)
from cli.delivery_table import delivery_table, facts
from cli.documents import Json, Schema, print_document, print_page
from cli.exit_codes import ExitCode
from cli.known import check_known
from cli.operator import configured, opened, operator
from cli.pages import LARGEST_ID
from cli.question import confirm
from cli.screen import console, dimse, table
from gateway.database.pool import Database
from gateway.database.tables import selected_deliveries
from gateway.database.tables.activity import Operator
from gateway.database.tables.selected_deliveries import Selection
from gateway.operate import deliveries as use_cases
from gateway.times import clock, dated, span

app = typer.Typer(
    help="List the deliveries to the PACS and the workers; retry, resend or cancel them.",
    no_args_is_help=True,
)

UseCase = Callable[[Database, Path, Selection, Operator], list[int]]


@app.command("list")
def list_(
    *,
    delivery: DeliveryId = None,
    study: Study = None,
    state: InState = None,
    route: OnRoute = None,
    target: ToTarget = None,
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, help="How many deliveries, the newest first.")
    ] = 50,
    after: Annotated[
        int | None,
        typer.Option(
            metavar="NEXT",
            min=1,
            max=LARGEST_ID,
            help="Print the next page; NEXT is the value of `next` of the page before.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List deliveries, the newest first, one a line.

    Several options select the deliveries that match all of them. UIDs and reasons are shortened; `deliveries
    show` and --json print them whole.
    """
    selection = selection_of(delivery, study, state, route, target)
    with opened("deliveries") as database, database.statement() as session:
        found = selected_deliveries.find(session, selection, limit=limit + 1, after=after)
        if not found:
            check_known(session, selection)
    shown = found[:limit]
    following = str(shown[-1].delivery_id) if len(found) > limit else None
    if as_json:
        print_page(Schema.DELIVERIES, shown, following)
        return
    if not shown:
        typer.echo("No delivery matches." if after is None else "There are no older deliveries.")
        return
    screen = console()
    screen.print(delivery_table(shown, screen.width))
    if following is not None:
        screen.print(
            f"There are more deliveries: --after {following}, or select by --study, --state, --route or "
            "--target.",
            soft_wrap=True,
        )


@app.command()
def show(
    delivery_id: Annotated[
        int, typer.Argument(metavar="ID", max=LARGEST_ID, help="The id of the delivery.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Show one delivery with each of its attempts."""
    with opened("deliveries") as database, database.statement() as session:
        found = selected_deliveries.find(session, Selection(delivery_id=delivery_id))
        attempts = selected_deliveries.attempts_of(session, delivery_id)
        if not found:
            check_known(session, Selection(delivery_id=delivery_id))
    if as_json:
        print_document(Schema.DELIVERY, found[0]._asdict() | {"tries": attempts})
        return
    screen = console()
    shown = table("", "", title=dated(f"Delivery {delivery_id}"))
    shown.show_header = False
    for name, value in facts(found[0]):
        shown.add_row(name, value)
    screen.print(shown)
    rows = table("at", "to", "outcome", "status", "took", "error", title="\nAttempts")
    for one in attempts:
        # Fenced: the claim was no longer valid. Another process has it, a crash undid it, or this outcome
        # was recorded already.
        outcome = f"{one.outcome}, not counted: claim lost" if one.fenced else one.outcome
        took = span(one.duration_ms / 1000)
        rows.add_row(clock(one.ended_at), one.destination, outcome, dimse(one.status), took, one.error or "")
    screen.print(rows if attempts else "\nThere was no attempt yet.")
    screen.print(
        f"\nEvery step of its study: `mini-pacs status --study {found[0].study_instance_uid}`",
        soft_wrap=True,
    )


@app.command()
def retry(
    *,
    delivery: DeliveryId = None,
    study: Study = None,
    state: InState = None,
    route: OnRoute = None,
    target: ToTarget = None,
    every: Every = False,
    as_json: Json = False,
) -> None:
    """Retry now: dead and cancelled deliveries become pending; pending ones do not wait any longer."""
    selection = chosen(delivery, study, state, route, target, every=every)
    _change(use_cases.retry, selection, "retried", as_json=as_json)


@app.command()
def resend(
    *,
    delivery: DeliveryId = None,
    study: Study = None,
    state: InState = None,
    route: OnRoute = None,
    target: ToTarget = None,
    every: Every = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Send again, delivered instances too: for a peer that has lost them. Asks unless --yes is given."""
    selection = chosen(delivery, study, state, route, target, every=every)
    if not yes:
        _ask(selection, "Send again")
    _change(use_cases.resend, selection, "resent", as_json=as_json)


@app.command()
def cancel(
    *,
    delivery: DeliveryId = None,
    study: Study = None,
    state: InState = None,
    route: OnRoute = None,
    target: ToTarget = None,
    every: Every = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Cancel pending and dead deliveries; `retry` undoes it. Asks unless --yes is given."""
    selection = chosen(delivery, study, state, route, target, every=every)
    if not yes:
        _ask(selection, "Cancel")
    _change(use_cases.cancel, selection, "cancelled", as_json=as_json)


# ---- the selection -------------------------------------------------------------------------------


def _ask(selection: Selection, verb: str) -> None:
    some = 1000
    with opened("deliveries") as database, database.statement() as session:
        count = len(selected_deliveries.find(session, selection, limit=some + 1))
        if not count:
            check_known(session, selection)
            raise RefusedError("no delivery matches; `mini-pacs deliveries list` lists those that exist")
    figure = f"more than {some}" if count > some else str(count)
    confirm(f"{verb} {figure} deliveries, as far as their states allow?")


# ---- the change ----------------------------------------------------------------------------------


def _change(use_case: UseCase, selection: Selection, done: str, *, as_json: bool) -> None:
    configuration = configured()
    with opened("deliveries", changes=True) as database:
        changed = use_case(database, configuration.edge.data_root, selection, operator())
        if not changed:
            with database.statement() as session:
                check_known(session, selection)
    if as_json:
        print_document(Schema.CHANGED_DELIVERIES, {done: changed})
    elif changed:
        typer.echo(f"{len(changed)} deliveries {done}. `mini-pacs status` shows what follows.")
    if not changed:
        typer.echo(
            f"Nothing was {done}: no selected delivery is in a state that allows it. Pending deliveries that "
            "are due need no retry: `mini-pacs status` says what they wait for. For delivered ones "
            "use `resend`.",
            err=True,
        )
        raise typer.Exit(ExitCode.REFUSED)
