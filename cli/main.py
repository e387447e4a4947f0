"""`mini-pacs`: parse, run one use case, render. One file per noun beside this one.

Only the module of the command that was asked for is imported; the others are known by their line of help,
so that `mini-pacs --help` and `mini-pacs status` need not wait for DICOM libraries and a lab.
"""

import importlib
import sys
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Any

import typer

from cli.exit_codes import ExitCode
from gateway.errors import (
    ConfigurationError,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    GatewayError,
)


@dataclass(frozen=True, slots=True)
class Command:
    """A word behind `mini-pacs`, where its Typer application or function is, and its line of help."""

    name: str
    module: str
    attribute: str
    text: str


COMMANDS = (
    # in the order of an operator's day
    Command(
        "status", "status", "status", "Show on one screen what waits, what is wrong, and what to do next."
    ),
    Command("deliveries", "deliveries", "app", "What is owed to whom: list, show, retry, resend, cancel."),
    Command("destinations", "destinations", "app", "The PACS and the workers: list, echo, pause, resume."),
    Command("queue", "queue", "app", "The Dramatiq queue: depth, rates, consumers, and dead messages."),
    Command(
        "sweep",
        "sweep",
        "sweep",
        "Run the healer now: rescue, reconcile, expire, purge. Harmless at any time.",
    ),
    Command("send", "send", "send", "Send DICOM instances, from files or generated, to a Storage SCP."),
    Command("inject-fault", "faults", "inject_fault", "Make something go wrong on purpose."),
    Command("faults", "faults", "faults", "Show the faults that are active, and those there are."),
    Command("clear-faults", "faults", "clear_faults", "End one fault, or all of them."),
    Command(
        "demo",
        "demo",
        "demo",
        "Start a lab, send through it, wait until the PACS has every result, print every step, stop.",
    ),
    Command(
        "lab", "lab", "lab", "Run SCP, actors, scheduler, five workers, a PACS and PostgreSQL until Ctrl-C."
    ),
    Command(
        "serve", "serve", "serve", "Receive instances: bind the port and accept associations until SIGTERM."
    ),
    Command("config", "configuration", "app", "The configuration."),
    Command("db", "database", "app", "The schema of the database, and who may use it."),
    Command("reset-db", "reset", "reset_db", "Forget every instance, delivery and message."),
)


_NOT_ALLOWED = "as the owner of the schema it would be, see SECURITY.md"


def build(*words: str) -> typer.Typer:
    """The application, in which the commands among `words` can be run and the others only be listed."""
    app = typer.Typer(
        name="mini-pacs",
        help="Operate mini_pacs_edge, the durable DICOM edge gateway.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    app.callback()(_options)
    for command in COMMANDS:
        if command.name in words:
            _add(app, command)
        else:
            app.command(command.name, help=command.text)(_listed)
    return app


def _add(app: typer.Typer, command: Command) -> None:
    found: Any = getattr(importlib.import_module(f"cli.{command.module}"), command.attribute)
    if isinstance(found, typer.Typer):
        app.add_typer(found, name=command.name)
    else:
        app.command(command.name)(found)


def _listed() -> None:
    raise AssertionError("a command that is run was imported")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mini-pacs {version('mini-pacs-edge')}")
        raise typer.Exit


def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Operate mini_pacs_edge, the durable DICOM edge gateway."""


def run() -> None:
    """The entry point: errors of ours become one sentence and a named exit code."""
    first = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    try:
        build(first)()
    except ConfigurationError as error:
        _fail(error, ExitCode.USAGE)
    except DatabaseUnavailableError as error:
        _fail(error, ExitCode.UNREACHABLE, "is it running? set DATABASE_URL, or POSTGRES_HOST and its kin")
    except DatabaseRefusedError as error:
        _fail(error, ExitCode.FAILED, _NOT_ALLOWED if error.sqlstate == "42501" else "")
    except GatewayError as error:
        _fail(error, ExitCode.FAILED)


def _fail(error: GatewayError, code: ExitCode, hint: str = "") -> None:
    sys.stderr.write(f"mini-pacs: {error}{f'; {hint}' if hint else ''}\n")
    sys.exit(code)


if __name__ == "__main__":
    run()
