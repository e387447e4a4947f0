"""`mini-pacs queue`: show the Dramatiq queue; list, requeue and discard dead messages."""

from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated
from uuid import UUID

import typer
from rich.table import Table

from cli.documents import Json, Schema, print_document, print_page
from cli.exit_codes import ExitCode
from cli.operator import configured, opened, operator
from cli.pages import After, parted, token
from cli.question import confirm
from cli.screen import console, table
from gateway.database.dsn import dsn_from_environment
from gateway.database.pool import Database
from gateway.database.tables import dead_messages, queues
from gateway.database.tables.overview import unserved
from gateway.diagnosis.processes import unserved as unserved_finding
from gateway.domain.identifiers import printable
from gateway.domain.routing import Route, route_of_queue
from gateway.errors import ConfigurationError
from gateway.operate import messages as use_cases
from gateway.times import clock, dated, span

app = typer.Typer(help="Show the Dramatiq queue; list, requeue or discard dead messages.")

WINDOW = timedelta(minutes=5)
OURS = {*Route, "sweep"}


@app.callback(invoke_without_command=True)
def show(context: typer.Context, as_json: Json = False) -> None:
    """Show the messages by queue and state, the rates over the last minutes, and the consumers."""
    if context.invoked_subcommand is not None:
        return
    with _database().statement() as session:
        depths = queues.depths(session)
        flows = queues.flows(session, WINDOW)
        consumers = queues.consumers(session)
        without_consumer = unserved(session)
    if as_json:
        print_document(
            Schema.QUEUE,
            {
                "depths": [asdict(depth) for depth in depths],
                "flows": [flow._asdict() | {"window_seconds": WINDOW.total_seconds()} for flow in flows],
                "consumers": [consumer._asdict() for consumer in consumers],
                "unserved": [one._asdict() for one in without_consumer],
            },
        )
        return
    screen = console()
    screen.print(_depth_table(depths))
    screen.print(_flow_table(flows))
    screen.print(_consumer_table(consumers))
    if any(depth.state == "rejected" for depth in depths):
        screen.print(
            "\nDead messages: `mini-pacs queue dead` lists them, `mini-pacs queue requeue` runs them again, "
            "`mini-pacs queue discard` deletes them."
        )
    for one in without_consumer:
        screen.print(unserved_finding(one).text, markup=False, soft_wrap=True)


@app.command()
def dead(
    as_json: Json = False,
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, help="How many messages, the newest first.")
    ] = 100,
    after: After = None,
) -> None:
    """List dead messages with their reasons."""
    with _database().statement() as session:
        found = dead_messages.dead(session, limit + 1, None if after is None else parted(after, UUID))
    rows = found[:limit]
    following = token(rows[-1].since, rows[-1].message_id) if len(found) > limit else None
    if as_json:
        print_page(Schema.DEAD_MESSAGES, rows, following)
        return
    columns = ("message", "queue", "actor", "delivery", "since", "deaths", "failures", "reason")
    shown = table(*columns, title=dated("Dead messages"))
    for row in rows:
        shown.add_row(
            row.message_id,
            row.queue_name,
            row.actor_name,
            "" if row.delivery_id is None else str(row.delivery_id),
            clock(row.since),
            str(row.deaths),
            str(row.failures),
            row.reason or "",
        )
    console().print(shown if rows else "No message is dead.")
    if following is not None:
        console().print(f"There are more messages: --after {following}", soft_wrap=True)


@app.command()
def requeue(
    message_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of dead messages.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every dead message.")] = False,
    as_json: Json = False,
) -> None:
    """Run dead messages again; their deaths and failures are counted from 0."""
    if bool(message_ids) == every:
        raise typer.BadParameter("name the messages (see `mini-pacs queue dead`), or give --all")
    chosen = _uuids(message_ids)
    with suppress(ConfigurationError):  # only its log needs config.yaml
        configured()
    with opened("queue", changes=True) as database:
        if every:
            requeued = use_cases.requeue_all(database, operator())
        else:
            requeued = use_cases.requeue(database, chosen, operator())
    if as_json:
        print_document(Schema.CHANGED_MESSAGES, {"requeued": requeued})
    else:
        console().print(f"{requeued} message(s) are queued again.")
    if message_ids and requeued < len(set(message_ids)):
        typer.echo("Some of these are not dead: `mini-pacs queue dead` lists those that are.", err=True)
        raise typer.Exit(ExitCode.REFUSED)


@app.command()
def discard(
    message_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of dead messages.")
    ] = None,
    every: Annotated[bool, typer.Option("--all-dead", help="Every dead message.")] = False,
    queue: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Delete every waiting message of a queue that no process consumes."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: Json = False,
) -> None:
    """Delete dead messages, or those of a queue without a consumer. Asks unless --yes is given.

    No image is lost: a delivery whose message is deleted stays dead until it is retried or cancelled.
    """
    if [bool(message_ids), every, queue is not None].count(True) != 1:
        raise typer.BadParameter(
            "name dead messages (see `mini-pacs queue dead`), or give --all-dead or --queue"
        )
    if queue is not None and (queue in OURS or route_of_queue(queue) is not None):
        raise typer.BadParameter(
            f"the edge itself uses the queue {queue}: its messages are not deleted", param_hint="--queue"
        )
    doomed = dead_messages.Doomed(None if not message_ids else tuple(_uuids(message_ids)), queue)
    configured()
    with opened("queue", changes=True) as database:
        if not yes:
            with database.statement() as session:
                count = dead_messages.count_doomed(session, doomed)
            what = "dead messages" if queue is None else f"messages of the queue {printable(queue, 100)}"
            confirm(f"Delete {count} {what} for good?")
        if every:
            gone = use_cases.discard_all(database, operator())
        else:
            gone = use_cases.discard(database, doomed, operator())
    left = sum(one.leaves_dead for one in gone)
    if as_json:
        print_document(
            Schema.CHANGED_MESSAGES,
            {"discarded": [one.message_id for one in gone], "deliveries_still_dead": left},
        )
    else:
        typer.echo(f"{len(gone)} message(s) deleted.")
        if left:
            typer.echo(
                f"{left} of their deliveries are dead still: `mini-pacs deliveries retry --state dead` sends "
                "them, `mini-pacs deliveries cancel --state dead` gives them up"
            )
    if len(gone) < len(set(message_ids or ["one"])):
        typer.echo(
            "Some of these messages do not exist, or are not dead: `mini-pacs queue dead` lists dead "
            "messages, `mini-pacs queue` the queues that no process consumes.",
            err=True,
        )
        raise typer.Exit(ExitCode.REFUSED)


def _uuids(message_ids: list[str] | None) -> list[str]:
    try:
        return [str(UUID(message_id)) for message_id in message_ids or []]
    except ValueError as error:
        raise typer.BadParameter("a message's id is a UUID: `mini-pacs queue dead` lists them") from error


def _database() -> Database:
    return Database(dsn_from_environment(), application_name="mini-pacs queue", size=1)


def _depth_table(depths: list[queues.Depth]) -> Table:
    rows = table("queue", "state", "messages", "not yet due", "oldest", title="Depth")
    for depth in depths:
        rows.add_row(
            depth.queue_name,
            {"queued": "waiting", "consumed": "running", "rejected": "dead"}.get(depth.state, depth.state),
            str(depth.count),
            str(depth.later or ""),
            _age(depth.oldest_seconds),
        )
    return rows


def _flow_table(flows: list[queues.Flow]) -> Table:
    minutes = WINDOW.total_seconds() / 60
    columns = ("queue", "in/min", "out/min", "failed", "mean duration")
    rows = table(*columns, title=f"\nRates over the last {minutes:g} minutes")
    for flow in flows:
        calls = flow.done + flow.failed
        rows.add_row(
            flow.queue_name,
            f"{flow.arrived / minutes:.1f}",
            f"{flow.done / minutes:.1f}",
            str(flow.failed or ""),
            span(flow.seconds / calls) if calls else "",
        )
    return rows


def _consumer_table(consumers: list[queues.ConsumerRow]) -> Table:
    columns = ("host", "process", "queues", "threads", "running", "longest", "since")
    rows = table(*columns, title=dated("\nConsumers"))
    for consumer in consumers:
        rows.add_row(
            consumer.host,
            str(consumer.pid) if consumer.alive else f"{consumer.pid} (dead)",
            ", ".join(consumer.queue_names),
            str(consumer.threads),
            str(consumer.holds),
            _age(consumer.oldest_seconds),
            clock(consumer.started_at),
        )
    return rows


def _age(seconds: float | None) -> str:
    return "" if seconds is None or seconds < 0 else span(seconds)
