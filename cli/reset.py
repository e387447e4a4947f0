"""`mini-pacs reset-db`: delete every instance, delivery and message from the database."""

import time
from typing import Annotated

import typer

from cli.documents import Json, Schema, print_document
from cli.operator import configured, identity, opened, operator
from cli.question import confirm
from gateway import log
from gateway.database import reset
from gateway.database.pool import Database
from gateway.database.tables import activity, spools
from gateway.database.wakeup import Wakeup
from gateway.errors import DatabaseRefusedError, OutcomeUnknownError
from gateway.log import Stage
from gateway.spool.identity import SpoolIdentity
from gateway.spool.marks import Identity, begin_epoch, end_epoch
from gateway.spool.spool import Spool
from gateway.sweep.clear import clear
from gateway.sweep.context import SweepContext

TRIES = 5
"""A try fails if another transaction locks the tables in another order. Usually that transaction ends
soon."""


def reset_db(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    files: Annotated[
        bool,
        typer.Option(
            "--files",
            help="Delete the files, and those in orphaned/. Without it they are moved to orphaned/.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete every instance, delivery and message from the database.

    Injected faults are deleted too, and generated studies are numbered from 1 again. Paused destinations stay
    paused. The processes may run meanwhile.

    The command says how many deliveries are not done yet, and asks unless --yes is given. The files are moved
    to orphaned/, where purge keeps them for sweep.retention_hours; --files deletes them.
    """
    configuration = configured()
    pair = SpoolIdentity(configuration.edge.data_root)
    with opened("reset-db", changes=True) as database:
        pair.require_resettable(database)
        with database.statement() as session:
            instances, owed = reset.kept(session)
        what = f"{instances} instances, of which {owed} deliveries are not done or dead"
        if not yes:
            where = "their files are DELETED" if files else "their files go to orphaned/"
            confirm(f"Forget {what}? {where}.")
        _forget(database, pair, what, count=instances)
        log.write(Stage.DB, "reset", level="warning", count=instances, detail=f"by {identity()}: {what}")
        wakeup = Wakeup(database.dsn)
        spool = Spool(configuration.edge.data_root)
        counts = clear(SweepContext(configuration, database, spool, wakeup, identity=pair), remove=files)
        wakeup.close()
    if as_json:
        print_document(Schema.RESET, {"instances": instances, "owed": owed, **counts})
    else:
        moved = (
            f"{counts['removed']} files deleted" if files else f"{counts['orphaned']} files are in orphaned/"
        )
        typer.echo(f"Forgotten: {what}; {moved}. Study numbers begin at 1.")


def _forget(database: Database, pair: SpoolIdentity, what: str = "", *, count: int = 0) -> None:
    # The spool first. If the process dies before the commit, the pair is unknown until this runs again.
    identity = begin_epoch(pair.root)
    try:
        _forget_rows(database, identity, what, count=count)
    except OutcomeUnknownError:
        raise
    except Exception:
        end_epoch(pair.root, identity)  # nothing was committed: the processes continue
        raise


def _forget_rows(database: Database, identity: Identity, what: str, *, count: int) -> None:
    for left in reversed(range(TRIES)):
        try:
            with database.transaction() as session:
                spools.begin_epoch(session, identity.name, identity.epoch)
                reset.forget(session)
                activity.record(session, operator(), "reset-db", what, count=count, outcome="forgotten")
        except DatabaseRefusedError as error:
            if not left or not (error.is_collision or error.sqlstate == "55P03"):
                raise
            time.sleep(0.2)
        else:
            return
