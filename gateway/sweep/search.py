"""Hash accession numbers and patient IDs if edge.search_key is set; delete all hashes if it is not.

Each run continues behind the last instance that it looked at, for a bounded time. It looks at the last ones
again: an instance with a smaller id may have been committed later.
"""

from gateway.database.tables import search_hashes, sweeps
from gateway.errors import ConfigurationError
from gateway.search.hashes import hashes_of
from gateway.search.key import search_key
from gateway.sweep.context import SweepContext

CURSOR = "search_hashes"
PAGE = 500
AGAIN = 1000
"""How many ids are looked at again; must exceed those of the transactions that are open at the same time."""
SECONDS = 3.0


def hash_new_series(context: SweepContext) -> None:
    """Hash the series that came since the last run."""
    if context.dry:
        return
    try:
        key = search_key(context.configuration.edge)
    except ConfigurationError:
        return  # `mini-pacs config check` and `mini-pacs why` say what is wrong with the file
    if key is None:
        with context.database.statement() as session:
            search_hashes.forget_all(session)
        return
    with context.database.statement() as session:
        began_after = int(sweeps.position(session, CURSOR) or 0)
    after, reached = max(0, began_after - AGAIN), began_after
    limit = context.clock() + SECONDS
    while not context.sliced or context.clock() < limit:
        with context.transaction() as session:
            files, last = search_hashes.series_after(session, after, limit=PAGE)
            search_hashes.add(session, [row for file in files for row in hashes_of(key, context.spool, file)])
            if last is not None:
                after, reached = last, max(reached, last)
                sweeps.store_position(session, CURSOR, str(reached))
        if last is None:
            return
