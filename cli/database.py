"""`mini-pacs db …`: the schema."""

from typing import Annotated

import typer

from cli.screen import console
from gateway.database import roles
from gateway.database.connection import dsn_from_environment
from gateway.database.migrate import migrate as apply_migrations

app = typer.Typer(help="The schema of the database, and who may use it.", no_args_is_help=True)


@app.command()
def migrate() -> None:
    """Bring the schema to the one of this version; safe to run again, and while others run it."""
    applied = apply_migrations(dsn_from_environment())
    screen = console()
    for version in applied:
        screen.print(f"applied {version}")
    screen.print("the schema is up to date" if not applied else f"{len(applied)} migrations applied")


@app.command()
def grant(
    role: Annotated[str, typer.Argument(help="A role that exists, owns nothing, and is not a superuser.")],
) -> None:
    """Give a role what the processes need, and no more; run it, like migrate, as the owner of the schema.

    A later migrate keeps it up to date. What it cannot do: migrate, reset-db, DROP, ALTER, TRUNCATE.
    """
    roles.grant(dsn_from_environment(), role)
    console().print(f"{role} may run every process; it owns nothing and cannot change the schema")
