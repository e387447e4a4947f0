"""What all connections to PostgreSQL have in common."""

from gateway.database.connection import connect


def ask(dsn: str, statement: str) -> object:
    """Return the first column of the first row, over a connection of its own."""
    connection = connect(dsn, application_name="test", deadline_seconds=5)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            [(answer,)] = cursor.fetchall()
            return answer
    finally:
        connection.close()


def test_no_statement_is_jit_compiled(database_url: str) -> None:
    """The planner overestimates the cost of a claim, so PostgreSQL would compile each claim."""
    # as in a PostgreSQL with JIT, which the embedded one does not have
    ask(
        database_url,
        "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET jit TO on', current_database()); END$$; SELECT 1",
    )
    assert ask(database_url, "SHOW jit") == "off"


def test_the_limits_of_a_database_end_no_statement_and_no_session(database_url: str) -> None:
    """Each wait of the edge has a deadline of its own, and its consumers listen on idle sessions."""
    limits = ("statement_timeout", "lock_timeout", "idle_session_timeout", "transaction_timeout")
    sets = " ".join(
        f"EXECUTE format('ALTER DATABASE %I SET {name} TO 60000', current_database());" for name in limits
    )
    ask(database_url, f"DO $$BEGIN {sets} END$$; SELECT 1")
    assert [ask(database_url, f"SHOW {name}") for name in limits] == ["0"] * 4
