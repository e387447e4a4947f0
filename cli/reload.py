"""`mini-pacs config reload`: let every process take config.yaml without a restart.

removed_debts.py decides what becomes of deliveries to archives and applications that the file removes.
"""

from dataclasses import dataclass
from typing import Annotated

import typer

from cli.documents import Json, Schema, print_document
from cli.exit_codes import ExitCode
from cli.operator import identity, opened, record
from cli.removed_debts import report_debts, report_late, settle_debts, where_to
from cli.screen import console
from gateway import config, log
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.tables import configurations, processes
from gateway.database.tables.configurations import Version
from gateway.database.tables.processes import ProcessRow
from gateway.database.wakeup import wake_once
from gateway.diagnosis.startable import refusals
from gateway.domain.routing import Route
from gateway.errors import ConfigurationError
from gateway.log import Stage
from gateway.processes import reload as use_case
from gateway.processes.difference import Change
from gateway.processes.history import changes_since
from gateway.processes.removed import owed_to_removed
from gateway.spool.identity import SpoolIdentity


def reload(
    move_to: Annotated[
        str | None,
        typer.Option(
            "--move-to",
            metavar="TARGET",
            help="Send the deliveries of a removed archive or application to this one instead.",
        ),
    ] = None,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Cancel the deliveries of a removed archive or application.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Cancel without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Make every process take config.yaml, without a restart: all of them, or none.

    It validates the file and shows what it changes. Each process reads its own file and says whether it can
    take it; if one cannot, nothing changes, and its reason is shown. Keys that count after a restart only are
    named. Removing an archive or application that is owed instances is refused without --move-to or --cancel.
    Exit code 1 if the change was refused, or if a removed one is owed instances that arrived meanwhile.
    """
    configuration = config.load()
    log.configure(configuration.edge.log_path, "cli")
    pair = SpoolIdentity(configuration.edge.data_root)
    known = pair if pair.root.exists() else None
    with opened("config reload", changes=True, identity=known) as database:
        with database.statement() as session:
            runs = configurations.taken(session)
            debts = owed_to_removed(session, configuration)
        changes = changes_since(runs, configuration)
        _refuse_bad_files(configuration)
        if not as_json:
            _announce(configuration, runs, changes)
        told = where_to(configuration, debts, move_to, cancel=cancel, yes=yes)
        if told is None:
            with database.statement() as session:
                use_case.require_no_debts(session, configuration)
        loaded = _load(database, configuration, changes, may_owe=told is not None)
        settled = None if told is None else settle_debts(database, configuration, told.to)
        wake_once(database.dsn, Route)  # deliveries that waited for an old value may be sent now
        with database.statement() as session:
            late = owed_to_removed(session, configuration)
            rows = [row for row in processes.processes(session) if row.configuration_digest is not None]
    took = [row for row in rows if row.configuration_digest == configuration.digest and row.beats]
    if as_json:
        content = {
            "version": loaded.version,
            "changes": [change.text for change in changes],
            "restart": _restart_lines(changes),
            "taken_by": [row.name for row in took],
            "not_yet": [row.name for row in loaded.behind],
            "settled": 0 if settled is None else settled.count,
            "left": late,
        }
        print_document(Schema.RELOADED, content)
    else:
        _report(loaded.version, took, loaded.behind)
        if told is not None and settled is not None:
            report_debts(settled, told.to)
        report_late(late)
    if late:
        raise typer.Exit(ExitCode.REFUSED)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The version that was taken, and the processes that have not taken it yet."""

    version: int
    behind: list[ProcessRow]


def _load(
    database: Database, configuration: Configuration, changes: list[Change], *, may_owe: bool
) -> _Loaded:
    """Let every process take the configuration, and record that.

    Raises:
        ReloadRefusedError: a process cannot take it, or a removed target is owed instances; nothing was
            changed.
    """
    sentences = [change.text for change in changes]
    version = use_case.load(database, configuration, difference=sentences, by=identity(), may_owe=may_owe)
    log.write(Stage.DB, "configuration_loaded", detail=f"version {version}", count=len(changes))
    changed = "; ".join(sentences) or "no difference"
    record(database, "reload", f"version {version}", changed, count=len(changes))
    return _Loaded(version, use_case.behind(database, configuration.digest))


def _refuse_bad_files(configuration: Configuration) -> None:
    wrong = list(refusals(configuration))
    if wrong:
        raise ConfigurationError("\n".join(f"{configuration.source}: {sentence}" for sentence in wrong))


def _announce(configuration: Configuration, runs: Version | None, changes: list[Change]) -> None:
    screen = console()
    if runs is None:
        screen.print(f"{configuration.source} is the first version in the history.", soft_wrap=True)
    elif not changes:
        screen.print(
            f"{configuration.source} has the values of version {runs.version}, which runs.", soft_wrap=True
        )
    else:
        screen.print(f"{configuration.source} changes version {runs.version}, which runs:", soft_wrap=True)
    for change in changes:
        screen.print(f"· {change.text}", soft_wrap=True)
    for line in _restart_lines(changes):
        screen.print(f"! {line}", style="yellow", soft_wrap=True)


def _restart_lines(changes: list[Change]) -> list[str]:
    """Return a sentence for each kind of restart that some changes need."""
    waiting: dict[str, list[str]] = {}
    for change in changes:
        if change.restart is not None and change.key not in waiting.setdefault(change.restart, []):
            waiting[change.restart].append(change.key)
    return [
        f"{', '.join(keys)}: counts after a restart only; restart {what}" for what, keys in waiting.items()
    ]


def _report(version: int, took: list[ProcessRow], behind: list[ProcessRow]) -> None:
    screen = console()
    if not took and not behind:
        screen.print(f"Version {version} is loaded. No process runs; each takes it at its start.")
        return
    screen.print(f"Version {version} is taken by {len(took)} processes.", style="green")
    for row in behind:
        screen.print(
            f"! The {row.name} has not taken it yet; it does as soon as it reads its file.", soft_wrap=True
        )
