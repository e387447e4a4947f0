"""The file is flushed while PostgreSQL writes the rows: what either of them says is heard."""

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
    """A migrated database."""
    return make_edge()


def fail() -> None:
    """What a broken disk makes of a flush."""
    raise SpoolError("fsync: Input/output error")


def test_a_flush_that_failed_is_heard_though_the_rows_collided(edge: EdgeSetup) -> None:
    """A collision is tried again, and a second fsync may succeed though the first lost the bytes.

    The connection goes back to the pool without it: what is said there next is not taken for failed.
    """
    with pytest.raises(SpoolError), edge.database.transaction(meanwhile=fail) as session:
        session.run(COLLIDE)
    with edge.database.statement() as session:
        assert session.one(Query("test", "SELECT 1")) == (1,)
