"""`mini-pacs destinations flow`: what arrives for each target and leaves, and the cause of a backlog."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from cli.documents import Json, Schema, print_page
from cli.operator import configured, opened
from cli.screen import console, table
from gateway.database.tables.flow import WINDOW, flows
from gateway.domain.flow import Bottleneck, TargetFlow
from gateway.times import since, span

WORDS = {
    Bottleneck.NONE: "",
    Bottleneck.CLOSED: "it is paused or away",
    Bottleneck.NO_PROCESSES: "no actor process serves it",
    Bottleneck.PEER: "the target answers too slowly",
    Bottleneck.EDGE: "the edge sends too slowly",
}


def flow(as_json: Json = False) -> None:
    """Show what arrives for each target and leaves, per minute, and the cause of a backlog."""
    lease = timedelta(seconds=configured().forwarder.lease_seconds)
    with opened("destinations") as database, database.statement() as session:
        found = flows(session, lease=lease)
    if as_json:
        print_page(Schema.FLOW, [_document(one) for one in found])
        return
    columns = (
        "target",
        "in/min",
        "out/min",
        "failed",
        "took",
        "waiting",
        "sending",
        "oldest",
        "drained in",
        "why",
    )
    rows = table(*columns, title=f"Flow over the last {span(WINDOW.total_seconds())}")
    for one in found:
        name = one.target if one.route.is_archive else f"workers {one.target}"
        rows.add_row(
            name,
            f"{one.arrived_per_minute:.1f}",
            f"{one.delivered_per_minute:.1f}",
            f"{one.failed_per_minute:.1f}" if one.failed_per_minute else "",
            "" if one.mean_seconds is None else span(one.mean_seconds),
            str(one.waiting),
            f"{one.in_flight}/{one.threads}",
            "" if one.oldest_send_at is None else since(one.oldest_send_at, datetime.now(UTC)),
            _drain(one),
            WORDS[one.bottleneck],
        )
        if len(one.destinations) > 1:
            for sent in one.destinations:
                rows.add_row(
                    f"  {sent.destination}",
                    "",
                    f"{sent.delivered_per_minute:.1f}",
                    "",
                    span(sent.mean_seconds),
                )
    console().print(rows)


def _drain(one: TargetFlow) -> str:
    if not one.waiting:
        return ""
    return "it grows" if one.drain_seconds is None else span(one.drain_seconds)


def _document(one: TargetFlow) -> dict[str, object]:
    return asdict(one) | {
        "busy": one.busy,
        "drain_seconds": one.drain_seconds,
        "bottleneck": one.bottleneck.value,
    }
