"""The commands of `mini-pacs`, each with the module that it is in and its line of help.

Only the module of the typed command is imported. For the others the line of help suffices, so that
`mini-pacs --help` and `mini-pacs status` do not wait for the import of the DICOM libraries and the lab.
"""

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Any

import typer

from cli import entry
from cli.boundary import HELP, GuardedGroup
from cli.help_text import unwrap, unwrapped


@dataclass(frozen=True, slots=True)
class CliCommand:
    """The name of a command, the place of its Typer application or function, and its line of help."""

    name: str
    module: str
    attribute: str
    text: str


COMMANDS = (
    # everyday commands first
    CliCommand(
        "status", "status", "status", "Show on one screen what waits, what is wrong, and what to do next."
    ),
    CliCommand(
        "diagnose",
        "diagnose",
        "diagnose",
        "Examine everything, within ten seconds; say what is wrong, what it means, what to type next.",
    ),
    CliCommand(
        "studies",
        "studies",
        "app",
        "List the studies that were received last; complete one that an application waits for.",
    ),
    CliCommand(
        "deliveries",
        "deliveries",
        "app",
        "List the deliveries to the PACS and the workers; retry, resend or cancel them.",
    ),
    CliCommand(
        "destinations", "destinations", "app", "List the PACS and the workers; echo, pause or resume them."
    ),
    CliCommand(
        "why",
        "why",
        "why",
        "Say what became of a study, an instance, or what a sender sent: the verdict, then the evidence.",
    ),
    CliCommand(
        "instances", "instances", "app", "List the kept instances, and UIDs that came with other bytes."
    ),
    CliCommand(
        "results",
        "instances",
        "results_app",
        "List the results of the workers, and those that match no source.",
    ),
    CliCommand(
        "refusals", "refused", "refusals", "List what the edge turned away, why, and what lets it in."
    ),
    CliCommand("queue", "queue", "app", "Show the Dramatiq queue; list, requeue or discard dead messages."),
    CliCommand(
        "sweep",
        "sweep",
        "sweep",
        "Run the sweep now: rescue, reconcile, expire, purge. It does no harm at any time.",
    ),
    CliCommand("send", "send", "send", "Send DICOM instances, from files or generated, to a Storage SCP."),
    CliCommand("inject-fault", "faults", "inject_fault", "Inject a fault, to see how the edge handles it."),
    CliCommand("faults", "faults", "faults", "Show the active faults, and all faults that can be injected."),
    CliCommand("clear-faults", "faults", "clear_faults", "End one injected fault, or all of them."),
    CliCommand(
        "demo",
        "demo",
        "demo",
        "Start a lab, send studies through it, wait until the PACS has every result, print each step, stop.",
    ),
    CliCommand(
        "lab",
        "lab",
        "lab",
        "Run the edge with PostgreSQL, a PACS and five workers on this machine until Ctrl-C.",
    ),
    CliCommand(
        "serve",
        "serve",
        "serve",
        "Run the Storage SCP: listen on the port and receive instances until SIGTERM.",
    ),
    CliCommand(
        "metrics",
        "metrics",
        "metrics",
        "Serve the figures of the edge for Prometheus, at /metrics, until SIGTERM or Ctrl-C.",
    ),
    CliCommand("console", "console", "app", "See and operate the edge in a browser; the accounts for that."),
    CliCommand(
        "activity",
        "activity",
        "activity",
        "List what operators did: who, when, from where, what, to what, how many.",
    ),
    CliCommand(
        "config",
        "configuration",
        "app",
        "Check the configuration, load it without a restart, show its history.",
    ),
    CliCommand("rules", "rules", "app", "Say what each destination accepts; test files; explain a decision."),
    CliCommand("notify", "notify", "app", "Try the webhook and the mail of `notify` in config.yaml."),
    CliCommand("db", "database", "app", "Migrate the schema; grant a role access; rebuild a lost database."),
    CliCommand(
        "reset-db", "reset", "reset_db", "Delete every instance, delivery and message from the database."
    ),
)


def build(*words: str) -> typer.Typer:
    """Return the application; it can run the commands that are in `words`, and only lists the others."""
    app = typer.Typer(
        name="mini-pacs",
        help="Operate mini_pacs_edge, the durable DICOM edge gateway.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        cls=GuardedGroup,
        context_settings=HELP,
    )
    app.callback()(_options)
    for command in COMMANDS:
        if command.name in words:
            _add(app, command)
        else:
            app.command(command.name, help=command.text)(_listed)
    return app


def _add(app: typer.Typer, command: CliCommand) -> None:
    found: Any = getattr(importlib.import_module(f"cli.{command.module}"), command.attribute)
    if isinstance(found, typer.Typer):
        unwrap(found)
        app.add_typer(found, name=command.name)
    else:
        app.command(command.name, help=unwrapped(found))(found)


def _listed() -> None:
    raise AssertionError("a command that runs is imported")


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
    """Run the command that was typed; cli/boundary.py turns every error into a line and an exit code."""
    app = build(first_word(sys.argv[1:], os.environ))
    entry.begin()
    app()


def first_word(arguments: list[str], environment: Mapping[str, str]) -> str:
    """Return the name of the command that was typed, or that the shell wants to complete."""
    for variable in ("COMP_WORDS", "_TYPER_COMPLETE_ARGS"):
        if "_MINI_PACS_COMPLETE" in environment and variable in environment:
            arguments = environment[variable].split()[1:]
    return next((word for word in arguments if not word.startswith("-")), "")


if __name__ == "__main__":
    run()
