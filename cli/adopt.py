"""`mini-pacs adopt-spool`: after the spool's disk was lost and replaced."""

from typing import Annotated

import typer

from cli.operator import configured, identity, opened
from cli.screen import Json, print_json
from gateway import log
from gateway.log import Stage
from gateway.recognize import adopt
from gateway.spool import Spool
from gateway.store import reset


def adopt_spool(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Make edge.data_root the spool of this database, after its disk was lost for good.

    Where the disk is only not mounted, mount it instead. What is owed and has no file here ends as dead, with
    that reason; what is here stays. Processes may run. Asks unless --yes.
    """
    configuration = configured()
    root = configuration.edge.data_root
    with opened("adopt-spool", changes=True) as database:
        with database.statement() as session:
            instances, owed = reset.kept(session)
        what = (
            f"{instances} instances are said to be in it, of which {owed} deliveries are still owed or dead"
        )
        if not yes:
            typer.confirm(f"Is {root} the spool from here on? {what}.", abort=True, err=True)
        adopted = adopt(Spool(root), database)
        if adopted:
            log.write(
                Stage.DB, "spool_adopted", level="warning", count=owed, detail=f"by {identity()}: {root}"
            )
    if as_json:
        print_json({"adopted": adopted, "data_root": str(root), "instances": instances, "owed": owed})
    elif adopted:
        typer.echo(
            f"{root} is the spool of this database; {what}. What is missing: `mini-pacs sweep reconcile`"
        )
    else:
        typer.echo(f"{root} is the spool of this database, and was before.")
