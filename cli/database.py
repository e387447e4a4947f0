"""`mini-pacs db …`: the schema."""

import typer
from rich.console import Console

from gateway.store.database import dsn_from_environment
from gateway.store.migrate import migrate as apply_migrations

app = typer.Typer(help="The schema of the database.", no_args_is_help=True)


@app.command()
def migrate() -> None:
    """Bring the schema to the one of this version; safe to run again, and while others run it."""
    applied = apply_migrations(dsn_from_environment())
    console = Console()
    for version in applied:
        console.print(f"applied {version}")
    console.print("the schema is up to date" if not applied else f"{len(applied)} migrations applied")
