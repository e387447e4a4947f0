"""`mini-pacs sweep`: run the sweep by hand, over everything at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from cli.documents import Json, Schema, print_document
from cli.operator import configured, opened, record
from cli.screen import console, table
from gateway.database.pool import Database
from gateway.database.wakeup import Wakeup
from gateway.spool.identity import SpoolIdentity
from gateway.spool.spool import Spool
from gateway.sweep.context import SweepContext
from gateway.sweep.run import VERBS
from gateway.sweep.run import sweep as run
from gateway.sweep.slices import Part


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
    """Run the sweep now: rescue, reconcile, expire, purge. It does no harm at any time.

    It looks at every file and row, which may take minutes. The run of each minute looks at a part of them,
    and the next one continues.
    """
    for verb in verbs or ():
        if verb not in VERBS:
            raise typer.BadParameter(f"{verb} is not one of {', '.join(VERBS)}")
    configuration = configured()
    root = configuration.edge.data_root
    pair = SpoolIdentity(root)
    with opened("sweep", changes=True) as unguarded:
        pair.recognize(unguarded)  # before any verb: it may be the first command on a new pair
    with opened("sweep", changes=True, identity=pair) as database, _progress() as progress:
        wakeup = Wakeup(database.dsn)
        context = SweepContext(
            configuration, database, Spool(root), wakeup, dry=dry_run, progress=progress, identity=pair
        )
        counted = run(context, tuple(verbs) if verbs else tuple(VERBS))
        wakeup.close()
        if not dry_run:
            _record(database, counted)
    if as_json:
        print_document(Schema.SWEEP, {"dry_run": dry_run, "counts": counted})
        return
    rows = table("verb", "what", "would be" if dry_run else "done")
    for verb, counts in counted.items():
        for what, count in counts.items():
            rows.add_row(verb, what.replace("_", " "), str(count))
    console().print(rows)


def _record(database: Database, counted: dict[str, dict[str, int]]) -> None:
    for verb, counts in counted.items():
        outcome = ", ".join(f"{what.replace('_', ' ')} {count:,}" for what, count in counts.items() if count)
        record(database, verb, "sweep", outcome or "nothing to do", count=sum(counts.values()))


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None] | None]:
    """Show on a terminal what was looked at so far: files, rows or folders of each part."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), TextColumn("{task.completed:,.0f}"), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as shown:
        tasks = {part: shown.add_task(part.replace("_", " "), total=None, visible=False) for part in Part}

        def looked_at(part: str, count: int) -> None:
            shown.update(tasks[Part(part)], advance=count, visible=count > 0 or None)

        yield looked_at
