"""Give the deliveries to the PACS its present AE title, some at a time, after it got another one.

`destinations.configure` renames the newest ones at once. The others are sent meanwhile, too: what is owed on
the route pacs goes to the PACS, under any AE title.

If the process dies, the next run begins again; what has the new title is passed over.
"""

from gateway.database.tables import destinations
from gateway.sweep.context import SweepContext

RENAMING_SECONDS = 5.0
"""No further transaction begins after this time; the next run goes on."""


def rename(context: SweepContext) -> None:
    """Rename for RENAMING_SECONDS at most; forget the former AE titles when nothing is left."""
    with context.database.statement() as session:
        ae_title = destinations.renamed_to(session)
    if ae_title is None or context.dry:
        return
    began = context.clock()
    before: int | None = None
    while context.clock() - began < RENAMING_SECONDS:
        with context.transaction() as session:
            before = destinations.rename_pacs(session, ae_title, before=before)
            if before is None:
                destinations.forget_renamed(session, ae_title)
                return
