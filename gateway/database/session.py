"""Run named statements on one connection and return their rows by name.

A session translates each error of psycopg2, and raises only the errors of gateway/errors.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import psycopg2

from gateway.database.arrays import array_text
from gateway.database.connection import Connection
from gateway.database.failure import sentence_of, translated
from gateway.database.prepared import PreparedStatement, prepared
from gateway.database.queries import Query
from gateway.database.rows import Maker, known, learn
from gateway.errors import DatabaseError, DatabaseRefusedError, DatabaseUnavailableError

Row = tuple[Any, ...]
T = TypeVar("T")


class Session:
    """Runs statements on `connection`.

    `opening` is sent in front of the first statement, in the same round trip, for example BEGIN. Where
    `in_transaction` is False each statement commits, so its outcome is unknown if its answer is lost.
    """

    def __init__(self, connection: Connection, opening: str = "", *, in_transaction: bool = False) -> None:
        self._connection = connection
        self._opening = opening
        self._in_transaction = in_transaction
        try:
            self._cursor = connection.cursor()
        except psycopg2.Error as error:  # the connection is closed: nothing was sent
            raise DatabaseUnavailableError(
                f"PostgreSQL at {connection.where} was lost: {sentence_of(error)}"
            ) from error

    def _translated(self, error: psycopg2.Error) -> DatabaseError:
        return translated(error, self._connection.where, commit_sent=not self._in_transaction)

    def _execute(self, statement: str, parameters: Mapping[str, object] | None) -> None:
        opening, self._opening = self._opening, ""
        try:
            self._cursor.execute(opening + statement, _written(parameters))
        except ValueError as error:
            # psycopg2 sends no text with a NUL, and none that UTF-8 cannot encode: nothing was sent.
            self._opening = opening
            raise DatabaseRefusedError(f"PostgreSQL takes no such text: {error}") from error
        except psycopg2.ProgrammingError as error:
            if error.pgcode is not None:
                raise self._translated(error) from error
            # psycopg2 cannot write a value of that type, such as a dict: nothing was sent.
            self._opening = opening
            raise DatabaseRefusedError(f"PostgreSQL takes no such value: {error}") from error
        except psycopg2.Error as error:
            raise self._translated(error) from error

    def _run(self, query: Query, parameters: Mapping[str, object]) -> None:
        self._execute(self._text_of(query), parameters)

    def _text_of(self, query: Query) -> str:
        """Return the text that executes a query: by its kept plan if the connection allows that."""
        if not (query.is_prepared and self._connection.prepares):
            return query.sql
        texts = prepared(query)
        return texts.execute if self._prepares(texts) else query.sql

    def _prepares(self, texts: PreparedStatement) -> bool:
        """Prepare a statement if it is not prepared yet; tell whether the connection allows it.

        PREPARE is sent before the opening, and is not part of the transaction.
        """
        connection = self._connection
        try:
            if connection.prepared is None:
                self._cursor.execute("SELECT pg_backend_pid()")
                [(server_process,)] = self._cursor.fetchall()
                # A pooler gives its clients a number of its own.
                connection.prepares = server_process == connection.info.backend_pid
                connection.prepared = set()
            if connection.prepares and texts.name not in connection.prepared:
                self._cursor.execute(texts.prepare)
                connection.prepared.add(texts.name)
        except psycopg2.Error as error:
            raise self._translated(error) from error
        return connection.prepares

    # ---- rows by name ----------------------------------------------------------------------------

    def rows(self, into: type[T], query: Query, /, **parameters: object) -> list[T]:
        """Return every row of `query` as an `into`: see gateway/database/rows.py."""
        found = self.all(query, **parameters)
        if not found:
            return []
        make = self._maker(into, query)
        return [make(row) for row in found]

    def row(self, into: type[T], query: Query, /, **parameters: object) -> T | None:
        """Return the first row of `query` as an `into`, or None."""
        found = self.one(query, **parameters)
        return None if found is None else self._maker(into, query)(found)

    def only(self, into: type[T], query: Query, /, **parameters: object) -> T:
        """Return the row of a statement that always has one: a function, or a SELECT without a FROM."""
        found = self.row(into, query, **parameters)
        assert found is not None, f"statement {query.name} returned no row"
        return found

    def values(self, query: Query, /, **parameters: object) -> list[Any]:
        """Return the one column of every row of `query`."""
        return [value for (value,) in self.all(query, **parameters)]

    def value(self, query: Query, /, **parameters: object) -> Any:  # noqa: ANN401  the statement knows its type
        """Return the one column of the first row of `query`; None where there is no row."""
        found = self.one(query, **parameters)
        if found is None:
            return None
        (value,) = found
        return value

    def _maker(self, into: type[T], query: Query) -> Maker[T]:
        return known(into, query) or learn(
            into, query, [column.name for column in self._cursor.description or ()]
        )

    # ---- rows as they come -----------------------------------------------------------------------

    def all(self, query: Query, /, **parameters: object) -> list[Row]:
        """Return every row of `query` as a plain tuple."""
        self._run(query, parameters)
        try:
            return list(self._cursor.fetchall())
        except psycopg2.Error as error:
            raise self._translated(error) from error

    def one(self, query: Query, /, **parameters: object) -> Row | None:
        """Return the first row of `query` as a plain tuple, or None."""
        self._run(query, parameters)
        try:
            row: Row | None = self._cursor.fetchone()
        except psycopg2.Error as error:
            raise self._translated(error) from error
        return row

    def run(self, query: Query, /, **parameters: object) -> int:
        """Execute `query` and return the count of rows that it touched."""
        self._run(query, parameters)
        return self._cursor.rowcount

    def run_each(self, query: Query, each: Sequence[Mapping[str, object]]) -> None:
        """Execute `query` once for each set of parameters, in one round trip and one transaction."""
        text = self._text_of(query)
        try:
            filled = [self._cursor.mogrify(text, _written(parameters)).decode() for parameters in each]
        except psycopg2.Error as error:
            raise self._translated(error) from error
        if filled:
            self._execute(";".join(filled), None)

    def add_to_next(self, statements: str) -> None:
        """Send statements without parameters in front of the next one, in its round trip."""
        self._opening += statements

    def script(self, statements: str) -> None:
        """Execute statements without parameters: migrations, BEGIN, COMMIT."""
        self._execute(statements, None)


def _written(parameters: Mapping[str, object] | None) -> Mapping[str, object] | None:
    """Return the parameters with each list as the text of an array."""
    if not parameters:
        return parameters
    return {
        name: array_text(value) if isinstance(value, list) else value for name, value in parameters.items()
    }


class DedicatedSession(Session):
    """A session on a connection outside of the pool.

    Any error of PostgreSQL closes the connection. Its owner connects again and repeats its statements, so one
    exception stands for all errors:

    Raises:
        DatabaseUnavailableError: the connection was lost, or PostgreSQL refused the statement.
    """

    def _translated(self, error: psycopg2.Error) -> DatabaseError:
        self._connection.close()
        return DatabaseUnavailableError(f"PostgreSQL at {self._connection.where}: {sentence_of(error)}")
