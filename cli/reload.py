"""`mini-pacs config reload` and `config history`: take config.yaml without a restart."""

from dataclasses import dataclass
from typing import Annotated

import typer

from cli.advice import UsageError
from cli.documents import Json, Schema, print_document
from cli.exit_codes import ExitCode
from cli.operator import identity, opened, record
from cli.question import confirm
from cli.screen import console, table
from gateway import config, log
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.tables import configurations, processes
from gateway.database.tables.configurations import TAKEN, Version
from gateway.database.tables.debts import Debt
from gateway.database.tables.processes import ProcessRow
from gateway.database.wakeup import wake_once
from gateway.diagnosis.startable import refusals
from gateway.domain.routing import Route, Target
from gateway.errors import ConfigurationError, ReloadRefusedError
from gateway.log import Stage
from gateway.processes import reload as use_case
from gateway.processes.difference import Change
from gateway.processes.history import changes_since
from gateway.processes.removed import SettledDebts, in_words, owed_to_removed, settle
from gateway.register.unregistered import backlog
from gateway.spool.identity import SpoolIdentity
from gateway.spool.spool import Spool
from gateway.times import clock, dated

LOOKED_AT = 1000
"""How many unregistered receptions are looked at to find the oldest one."""


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
        told = _where_to(configuration, debts, move_to, cancel=cancel, yes=yes)
        if told is None:
            with database.statement() as session:
                use_case.require_no_debts(session, configuration)
        loaded = _load(database, configuration, changes, may_owe=told is not None)
        settled = None if told is None else _settle(database, configuration, told.to)
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
            _report_debts(settled, told.to)
        _report_late(late)
    if late:
        raise typer.Exit(ExitCode.REFUSED)


@dataclass(frozen=True, slots=True)
class _DebtsGoTo:
    """Which target gets what removed ones are owed; None: it is cancelled."""

    to: Target | None


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


def _settle(database: Database, configuration: Configuration, to: Target | None) -> SettledDebts:
    """Hand the deliveries of removed targets over to another one, or cancel them, and record that."""
    spool = Spool(configuration.edge.data_root)
    settled = settle(
        database,
        configuration,
        to=to,
        by=identity(),
        unregistered_since=lambda: backlog(spool, LOOKED_AT).oldest,
    )
    record(database, "settle-debts", "removed targets", _how(to), count=settled.count)
    log.write(Stage.QUEUE, "debts_settled", level="warning", count=settled.count, detail=_how(to))
    return settled


def _where_to(
    configuration: Configuration, debts: list[Debt], move_to: str | None, *, cancel: bool, yes: bool
) -> _DebtsGoTo | None:
    """Return what the operator said about the debts of removed targets; None if nothing was said.

    Raises:
        UsageError: no such target, or one of another kind.
    """
    if move_to is not None and cancel:
        raise UsageError("--move-to and --cancel exclude each other")
    if cancel:
        if not debts and not yes:
            return None  # nothing to ask about: what is owed a moment later is refused
        if not yes:
            confirm(f"{in_words(debts)}. Cancel them?")
        return _DebtsGoTo(None)
    if move_to is None:
        return None
    found = [one for one in configuration.forwarder.targets.all if one.name == move_to]
    if not found:
        names = ", ".join(one.name for one in configuration.forwarder.targets.all)
        raise UsageError(
            f"--move-to {move_to}: config.yaml has no such archive or application; it has {names}"
        )
    if any(debt.route.is_archive != found[0].route.is_archive for debt in debts):
        raise UsageError(
            f"--move-to {move_to}: what an archive is owed goes to an archive only, and what an application "
            f"is owed to an application. {in_words(debts)}"
        )
    return _DebtsGoTo(found[0])


def _how(to: Target | None) -> str:
    return f"cancelled by {identity()}" if to is None else f"now owed to {to.name}, by {identity()}"


def _report_debts(settled: SettledDebts, to: Target | None) -> None:
    done = (
        "were cancelled"
        if to is None
        else f"go to {to.name} now, or were cancelled if it gets the instance anyway"
    )
    screen = console()
    screen.print(f"{settled.count:,} deliveries {done}.")
    if settled.unregistered:
        screen.print(
            "! Instances that were received before are not registered yet. If some are for what was removed, "
            "`mini-pacs status` says so.",
            soft_wrap=True,
        )


def _report_late(late: list[Debt]) -> None:
    if late:
        console().print(
            f"! {in_words(late)}: they arrived, or were being sent, while the processes took the version. "
            "Nothing sends them now; they are kept. Say where they go: `mini-pacs config reload --move-to "
            "TARGET`, or `--cancel`",
            soft_wrap=True,
        )


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
