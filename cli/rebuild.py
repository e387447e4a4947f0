"""`mini-pacs db rebuild`: register the files of the spool again after the database was lost."""

import dataclasses
import time
from typing import Annotated

import typer

from cli.documents import Json, Schema, print_document
from cli.operator import configured, identity, opened, record
from cli.question import confirm
from cli.screen import console
from cli.send_report import progress
from gateway import log
from gateway.config import Configuration
from gateway.database import reset
from gateway.database.migrate import migrate
from gateway.database.pool import Database
from gateway.database.tables import destinations, spools
from gateway.database.wakeup import wake_once
from gateway.domain.routing import Route
from gateway.log import Stage
from gateway.register.rebuild import Rebuild
from gateway.register.rebuild_batch import RebuildCounts
from gateway.register.rebuild_files import count_files
from gateway.register.rebuild_plan import RebuildPlan, plan
from gateway.spool.identity import SpoolIdentity
from gateway.spool.spool import Spool


def rebuild(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Register every file of the spool again, after the database was lost or restored from a backup.

    Files in incoming/ and queued/ are owed again, those in failed/ are dead, those in sent/ are delivered. A
    destination may get an instance twice; none misses one. The command also pairs the database with a new
    spool, if the disk of the old one is lost: deliveries without a file become dead.

    It migrates the schema, so run it as its owner. The processes may run meanwhile; they wait until it ends.
    If the command is interrupted, run it again. It says how many files there are, and asks unless --yes is
    given.
    """
    configuration = configured()
    pair = SpoolIdentity(configuration.edge.data_root)
    spool = Spool(configuration.edge.data_root)
    with opened("db rebuild", changes=True) as database:
        with database.statement() as session:
            planned = plan(pair, session)
            kept = reset.kept(session) if spools.has_schema(session) else reset.Kept(0, 0)
        files = count_files(spool)
        if not yes:
            confirm(_question(planned, files, kept, str(spool.root)))
        applied = migrate(database.dsn)
        began = time.monotonic()
        counts = _register(configuration, database, spool, planned, sum(files.values()), quiet=as_json)
        with database.statement() as session:
            pair.adopt(session, planned.identity, planned.seen_at)
        record(database, "rebuild", str(spool.root), _told(counts) or "no files", count=counts.files)
        seconds = time.monotonic() - began
        wake_once(database.dsn, Route)
    log.write(
        Stage.DB,
        "rebuilt",
        level="warning",
        count=counts.files,
        detail=f"by {identity()}: {_told(counts)}",
        duration_ms=seconds * 1000,
    )
    _show(counts, files, applied, planned, seconds, as_json=as_json)


def _question(planned: RebuildPlan, files: dict[str, int], kept: reset.Kept, root: str) -> str:
    found = ", ".join(f"{name} {count:,}" for name, count in files.items())
    why = f"{planned.why}. " if planned.why else ""
    rows = (
        f"The database keeps {kept.instances:,} instances, of which {kept.unsettled:,} deliveries are not "
        "done or dead"
    )
    forgets = "; they are from before the reset-db and are FORGOTTEN" if planned.forgets else ""
    return f"{why}{rows}{forgets}. Register the {sum(files.values()):,} files of {root} ({found})?"


def _register(
    configuration: Configuration,
    database: Database,
    spool: Spool,
    planned: RebuildPlan,
    total: int,
    *,
    quiet: bool,
) -> RebuildCounts:
    with database.transaction() as session:
        if planned.forgets:
            reset.forget(session)
    with database.transaction() as session:
        destinations.configure(session, configuration)
    with progress(quiet=quiet) as bar:
        task = bar.add_task("registering", total=total)
        return Rebuild(
            configuration,
            database,
            spool,
            was_unknown=planned.was_unknown,
            epoch=planned.epoch,
            progress=lambda count: bar.advance(task, count),
        ).run()


def _told(counts: RebuildCounts) -> str:
    values = dataclasses.asdict(counts)
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in values.items() if count)


def _show(
    counts: RebuildCounts,
    files: dict[str, int],
    applied: list[str],
    planned: RebuildPlan,
    seconds: float,
    *,
    as_json: bool,
) -> None:
    rate = counts.files / seconds if seconds else 0.0
    if as_json:
        print_document(
            Schema.REBUILT,
            {
                "applied": applied,
                "found": files,
                "counts": dataclasses.asdict(counts),
                "spool": {"name": str(planned.identity.name), "epoch": planned.identity.epoch},
                "seconds": seconds,
                "files_per_second": rate,
            },
        )
        return
    screen = console(soft_wrap=True)
    screen.print(f"{_told(counts) or 'no files'}; {seconds:.1f} s, {rate:,.0f} files/s")
    screen.print("Spool and database belong together; the processes continue. Next: `mini-pacs status`")
