"""`mini-pacs config history`: the versions of config.yaml that were loaded, or one of them as it was.

`mini-pacs config reload` (cli/reload.py) makes a new one.
"""

from typing import Annotated

import typer

from cli.documents import Json, Schema, print_document
from cli.operator import opened
from cli.screen import console, table
from gateway.database.tables import configurations
from gateway.database.tables.configurations import TAKEN, Version
from gateway.errors import ReloadRefusedError
from gateway.times import clock, dated


def history(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many versions to show.")] = 20,
    version: Annotated[
        int | None, typer.Option("--show", metavar="VERSION", help="Print the keys and values of a version.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the versions of config.yaml that were loaded: when, by whom, and what each changed."""
    with opened("config history") as database, database.statement() as session:
        versions = configurations.history(session, limit=1000 if version is not None else limit)
    if version is not None:
        versions = [one for one in versions if one.version == version]
        if not versions:
            raise ReloadRefusedError(f"there is no version {version}; `mini-pacs config history` lists them")
    if as_json:
        print_document(Schema.CONFIG_HISTORY, {"items": versions, "next": None})
        return
    if version is not None:
        typer.echo(versions[0].document, nl=False)
        return
    screen = console()
    if not versions:
        screen.print("No version was loaded yet: `mini-pacs serve` records the first one.")
        return
    rows = table("version", "state", "when", "by", "what it changed", title=dated("Versions of config.yaml"))
    for one in versions:
        rows.add_row(
            str(one.version),
            one.state,
            clock(one.proposed_at),
            one.proposed_by,
            "\n".join(_what(one)),
        )
    screen.print(rows)


def _what(version: Version) -> list[str]:
    if version.state != TAKEN and version.reason:
        return [version.reason]
    return list(version.difference) or ["nothing, or it is the first version"]
