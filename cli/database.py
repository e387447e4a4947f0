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
    as_json: Json = False,
) -> None:
    """Grant a role what the processes need, and nothing else.

    Run it, as `db migrate`, as the owner of the schema. A later `db migrate` grants what new tables need.
    The role cannot migrate, reset-db, DROP, ALTER or TRUNCATE.
    """
    roles.grant(dsn_from_environment(), role)
    if as_json:
        print_document(Schema.GRANTED, {"role": role})
    else:
        console().print(f"{role} can run every process; it owns nothing and cannot change the schema")
