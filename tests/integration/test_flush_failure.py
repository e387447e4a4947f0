"""The file is flushed while PostgreSQL writes the rows; an error of either is noticed."""

import pytest
from conftest import MakeEdge
from support.edge_setup import EdgeSetup

from gateway.database.queries import Query
from gateway.errors import SpoolError

COLLIDE = Query(
    "test", "DO $$ BEGIN RAISE EXCEPTION 'the other one goes first' USING ERRCODE = '40P01'; END $$"
)


@pytest.fixture
def edge(make_edge: MakeEdge) -> EdgeSetup:
    """Return a migrated database."""
    return make_edge()


def fail() -> None:
    """Raise the error of a flush to a broken disk."""
    raise SpoolError("fsync: Input/output error")


def test_a_failed_flush_is_noticed_when_the_rows_collided(edge: EdgeSetup) -> None:
    """The rows are written again, and a second fsync may succeed although the first one lost bytes.

    The connection returns to the pool without the failed flush, so its next use is not affected.
    """
    with pytest.raises(SpoolError), edge.database.transaction(meanwhile=fail) as session:
        session.run(COLLIDE)
    with edge.database.statement() as session:
        assert session.one(Query("test", "SELECT 1")) == (1,)
