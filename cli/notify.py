"""`mini-pacs notify`: try the webhook and the mail server of config.yaml."""

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress

import typer

from cli.advice import UsageError
from cli.documents import Json, Schema, print_page
from cli.exit_codes import ExitCode
from cli.operator import configured, opened
from gateway.database.tables import findings
from gateway.errors import DatabaseError
from gateway.notify.endpoints import send
from gateway.notify.message import trial

app = typer.Typer(help="Try the webhook and the mail of `notify` in config.yaml.", no_args_is_help=True)


@app.callback()
def _noun() -> None:
    """Try the webhook and the mail of `notify` in config.yaml."""


@app.command("test")
def try_(as_json: Json = False) -> None:
    """Send a test message to each endpoint of `notify`. Exit code 3 where one does not take it."""
    configuration = configured()
    if configuration.notify is None:
        raise UsageError(
            f"{configuration.source} has no section notify: name a webhook or a mail server there"
        )
    message = trial(configuration.edge.ae_title, socket.gethostname())
    results = [
        {"endpoint": endpoint, "well": not error, "error": error or None}
        for endpoint, error in send(configuration.notify, message)
    ]
    _keep(results)
    if as_json:
        print_page(Schema.NOTIFIED, results)
    else:
        for one in results:
            typer.echo(f"{one['endpoint']}: {'it took the message' if one['well'] else one['error']}")
    if not all(one["well"] for one in results):
        raise typer.Exit(ExitCode.UNREACHABLE)


def _keep(results: Sequence[Mapping[str, object]]) -> None:
    """Note what each endpoint did, which ends or begins a finding; PostgreSQL may be away."""
    with suppress(DatabaseError), opened("notify") as database, database.statement() as session:
        for one in results:
            findings.note_endpoint(session, str(one["endpoint"]), str(one["error"] or ""))
