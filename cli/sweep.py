"""`mini-pacs sweep`: run the sweep by hand."""

from typing import Annotated

import typer

from cli.documents import Json, Schema, print_document
from cli.operator import configured, opened
from cli.screen import console, table
from gateway.database.wakeup import Wakeup
from gateway.spool.spool import Spool
from gateway.sweep.context import SweepContext
from gateway.sweep.run import VERBS
from gateway.sweep.run import sweep as run


def sweep(
    verbs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VERB]...",
            help=f"Some of {', '.join(VERBS)}; without any, all in this order.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be done, but change nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the sweep now: rescue, reconcile, expire, purge. It does no harm at any time."""
    for verb in verbs or ():
        if verb not in VERBS:
            raise typer.BadParameter(f"{verb} is not one of {', '.join(VERBS)}")
    configuration = configured()
    with opened("sweep", changes=True) as database:
        wakeup = Wakeup(database.dsn)
        context = SweepContext(
            configuration, database, Spool(configuration.edge.data_root), wakeup, dry=dry_run
        )
        counted = run(context, tuple(verbs) if verbs else tuple(VERBS))
        wakeup.close()
    if as_json:
        print_document(Schema.SWEEP, {"dry_run": dry_run, "counts": counted})
        return
    rows = table("verb", "what", "would be" if dry_run else "done")
    for verb, counts in counted.items():
        for what, count in counts.items():
            rows.add_row(verb, what.replace("_", " "), str(count))
    console().print(rows)
