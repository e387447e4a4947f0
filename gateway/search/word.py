"""Find what a typed word means: an AE title that the edge knows, an accession number or a patient ID.

The word may be an attribute of a patient. It never gets into a statement, a log line or an error; only its
keyed hash gets into a statement.
"""

from datetime import timedelta

from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import activity, refusals, search_hashes
from gateway.database.tables.activity import Operator
from gateway.domain.identifiers import is_ae_title
from gateway.search.hashes import hashes_to_find

MAX_TITLES = timedelta(days=30)
MOST_TITLES = 10_000


def is_known_title(session: Session, word: str, configuration: Configuration) -> bool:
    """Tell whether the edge knows that AE title. It is compared here, because it may be a patient ID."""
    if not is_ae_title(word):
        return False
    if word in configuration.edge.calling_ae_titles:
        return True
    return any(row.calling_ae_title == word for row in refusals.page(session, MAX_TITLES, limit=MOST_TITLES))


def studies_by_number(database: Database, key: bytes, word: str, operator: Operator) -> list[str] | None:
    """Return the studies with that accession number or patient ID; None: too many searches this minute.

    The search is recorded as an activity, without the word.
    """
    with database.transaction() as session:
        found = search_hashes.find(session, hashes_to_find(key, word))
        outcome = "refused: too many searches" if found is None else f"{len(found)} studies found"
        activity.record(session, operator, "search", "studies by a number", outcome=outcome)
    return found
