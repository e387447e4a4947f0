"""Numbers for the studies that the sender generates, unique over every sender of one database."""

from gateway.database.pool import Database
from gateway.database.queries import load

_Q = load("sequence")


def next_numbers(database: Database, count: int) -> list[int]:
    """Return the next `count` numbers; none is returned twice before `reset-db`."""
    with database.statement() as session:
        return session.values(_Q["next_numbers"], count=count)
