"""What removed archives and applications are owed when config.yaml is loaded: where it goes, and the report.

cli/reload.py loads the file. The deliveries are settled after every process has taken it, because until then
a process may create another one.
"""

from dataclasses import dataclass

from cli.advice import UsageError
from cli.operator import identity, record
from cli.question import confirm
from cli.screen import console
from gateway import log
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.tables.debts import Debt
from gateway.domain.routing import Target
from gateway.log import Stage
from gateway.processes.removed import SettledDebts, in_words, settle
from gateway.register.unregistered import backlog
from gateway.spool.spool import Spool

LOOKED_AT = 1000
"""How many unregistered receptions are looked at to find the oldest one."""


@dataclass(frozen=True, slots=True)
class DebtsGoTo:
    """Which target gets what removed ones are owed; None: it is cancelled."""

    to: Target | None


def where_to(
    configuration: Configuration, debts: list[Debt], move_to: str | None, *, cancel: bool, yes: bool
) -> DebtsGoTo | None:
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
        return DebtsGoTo(None)
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
    return DebtsGoTo(found[0])


def settle_debts(database: Database, configuration: Configuration, to: Target | None) -> SettledDebts:
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


def _how(to: Target | None) -> str:
    return f"cancelled by {identity()}" if to is None else f"now owed to {to.name}, by {identity()}"


def report_debts(settled: SettledDebts, to: Target | None) -> None:
    """Print how many deliveries were handed over or cancelled."""
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


def report_late(late: list[Debt]) -> None:
    """Print what removed targets are still owed, and what to type; nothing if that is nothing."""
    if late:
        console().print(
            f"! {in_words(late)}: they arrived, or were being sent, while the processes took the version. "
            "Nothing sends them now; they are kept. Say where they go: `mini-pacs config reload --move-to "
            "TARGET`, or `--cancel`",
            soft_wrap=True,
        )
