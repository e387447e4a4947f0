"""`mini-pacs refusals`: what the edge turned away, why, and what lets it in."""

from dataclasses import asdict
from typing import Annotated

import typer

from cli.documents import Json, Schema, print_page
from cli.moments import window_of
from cli.operator import opened
from cli.pages import After, parted, token
from cli.screen import console, table
from gateway.database.tables import refusals as table_of_refusals
from gateway.database.tables.refusals import RefusalRow
from gateway.domain.refusal_words import meaning, remedy
from gateway.times import clock, dated, since

MD5_LENGTH = 32

Since = Annotated[
    str, typer.Option("--since", metavar="TIME", help="From when on: 30min, 2h, 3d, 04:19, 2026-11-28.")
]


def refusals(
    since_: Since = "1d",
    calling_ae_title: Annotated[
        str | None,
        typer.Option(
            "--calling-aet", metavar="AE", help="Only refusals of this AE title.", show_default=False
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, help="How many peers and reasons, the last ones first.")
    ] = 50,
    after: After = None,
    as_json: Json = False,
) -> None:
    """List what the edge turned away, why, and what lets it in.

    Associations, presentation contexts, instances, TLS handshakes, silent connections: one line for each
    peer and reason, with what to change. `mini-pacs why UID` finds refused instances, too.
    """
    window = window_of(since_, "--since")
    position = None
    if after is not None:
        when, row_id = parted(after, _md5)
        position = (when, row_id)
    with opened("refusals") as database, database.statement() as session:
        found = table_of_refusals.page(
            session, window, limit=limit + 1, after=position, calling_ae_title=calling_ae_title
        )
    rows = found[:limit]
    following = token(rows[-1].last_at, rows[-1].id) if len(found) > limit else None
    if as_json:
        print_page(Schema.REFUSALS, [_document(row) for row in rows], following)
        return
    if not rows:
        typer.echo(
            f"Nothing was refused since {since_}." if after is None else "There are no older refusals."
        )
        return
    _print(rows)
    if following is not None:
        console().print(f"There are more: --after {following}, or --limit", soft_wrap=True)


def _document(row: RefusalRow) -> dict[str, object]:
    shown = asdict(row)
    del shown["id"]
    refused = row.refused
    return shown | {
        "text": sentence(row),
        "remedy": remedy(refused) or None,
        "allowlist_entry": refused.allowlist_entry,
    }


def sentence(row: RefusalRow) -> str:
    """Return what happened: who was refused, how often, in which time, and why."""
    often = "once" if row.count == 1 else f"{row.count} times in {since(row.first_at, row.last_at)}"
    return f"{row.refused.peer} {meaning(row.reason)}: refused {often}"


def _print(rows: list[RefusalRow]) -> None:
    screen = console()
    shown = table("last", "times", "peer", "called", "what", "why", title=dated("Refused"))
    for row in rows:
        peer = f"{row.calling_ae_title or '?'}@{row.remote_address}"
        why = row.reason.value if row.status is None else f"{row.reason.value} 0x{row.status:04X}"
        shown.add_row(clock(row.last_at), str(row.count), peer, row.called_ae_title, row.kind.value, why)
    screen.print(shown)
    for row in rows:
        screen.print(f"\n{sentence(row)}.", soft_wrap=True)
        if row.detail and row.refused.allowlist_entry is None:
            screen.print(f"  the last: {row.detail}", soft_wrap=True)
        if text := remedy(row.refused):
            screen.print(f"  → {text}", soft_wrap=True)
    if any(row.refused.allowlist_entry for row in rows):
        screen.print(
            "\nChanged config.yaml? `mini-pacs config reload` lets every process take it.", soft_wrap=True
        )


def _md5(text: str) -> str:
    if len(text) != MD5_LENGTH:
        raise ValueError(text)
    return text
