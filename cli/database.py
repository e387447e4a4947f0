"""`mini-pacs db`: migrate the schema, grant a role what the processes need, rebuild a lost database."""

from typing import Annotated

import typer

from cli.documents import Json, Schema, print_document
from cli.rebuild import rebuild
from cli.screen import console
from gateway.database import roles
from gateway.database.dsn import dsn_from_environment
from gateway.database.migrate import migrate as apply_migrations

app = typer.Typer(
    help="Migrate the schema; grant a role access; rebuild a lost database.",
    no_args_is_help=True,
)
app.command()(rebuild)


@app.command()
def migrate(as_json: Json = False) -> None:
    """Bring the schema to the one of this version.

    Running it again, or while the processes run, does no harm.
    """
    applied = apply_migrations(dsn_from_environment())
    if as_json:
        print_document(Schema.MIGRATED, {"applied": applied})
        return
    screen = console()
    for version in applied:
        screen.print(f"applied {version}")
    screen.print(f"{len(applied)} migrations applied" if applied else "the schema is up to date")


@app.command()
def grant(
    role: Annotated[str, typer.Argument(help="A role that exists, owns nothing, and is not a superuser.")],
    for_console: Annotated[
        bool, typer.Option("--console", help="Grant what `mini-pacs console` needs: the accounts, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Grant a role what the processes need, and nothing else.

    Run it, as `db migrate`, as the owner of the schema. A later `db migrate` grants what new tables need.
    The role cannot migrate, reset-db, DROP, ALTER or TRUNCATE.
    """
    roles.grant(dsn_from_environment(), role, console=for_console)
    if as_json:
        print_document(Schema.GRANTED, {"role": role, "console": for_console})
    else:
        what = "the console and every process" if for_console else "every process"
        console().print(f"{role} can run {what}; it owns nothing and cannot change the schema")
