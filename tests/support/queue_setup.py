"""The queue for a test: a database, real `dramatiq` processes on queue_actors, and the rows."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from gateway.database.pool import Database
from gateway.database.queries import Query
from gateway.database.session import Row
from gateway.database.tables import messages
from gateway.database.wakeup import Wakeup
from support.launcher import REPOSITORY, Process, Processes

QUEUE = "q"
TESTS = Path(__file__).resolve().parents[1]

RAN = """
CREATE TABLE ran (
    id serial,
    number int NOT NULL, pid int NOT NULL, due timestamptz,
    at timestamptz DEFAULT clock_timestamp()
)
"""

FILL = """
SELECT count(dramatiq.send(
    'q', %(actor)s, jsonb_build_array(i), %(priority)s, now() + %(delay)s
        + CASE WHEN %(scattered)s THEN random() ELSE i::float8 / %(count)s END * %(spread)s::interval
))
FROM generate_series(1, %(count)s) AS i
"""

FILL_PUNCTUAL = """
SELECT count(dramatiq.send('q', 'be_punctual', jsonb_build_array(i, extract(epoch FROM due)), 4, due))
FROM (
    SELECT i, now() + %(delay)s + random() * %(spread)s AS due FROM generate_series(1, %(count)s) AS i
) AS new
"""


class QueueSetup:
    """A database with a queue, and the processes that consume it."""

    def __init__(self, dsn: str, processes: Processes) -> None:
        self.dsn = dsn
        self.database = Database(dsn, application_name="test", deadline_seconds=120)
        self._processes = processes
        self._started: list[Process] = []
        self._wakeup: Wakeup | None = None
        self.run(RAN)

    def start(self, *, threads: int = 8, dsn: str | None = None, polls: bool = True) -> Process:
        """Start an actor process; return it when it is ready. Without `polls` see `support.no_poll`."""
        process = self.launch(threads=threads, dsn=dsn, polls=polls)
        process.wait_for_line("ready for action", 30)
        return process

    def launch(self, *, threads: int = 8, dsn: str | None = None, polls: bool = True) -> Process:
        """Start an actor process without waiting for it."""
        environment = {**self.environment(dsn), "NO_POLL": "" if polls else "1"}
        process = self._processes.start(
            "dramatiq", "support.queue_actors", "-p", "1", "-t", str(threads), **environment
        )
        self._started.append(process)
        return process

    def environment(self, dsn: str | None = None) -> Mapping[str, str]:
        """Return the variables of an actor process."""
        return {"DATABASE_URL": dsn or self.dsn, "PYTHONPATH": f"{REPOSITORY}:{TESTS}"}

    def send(
        self, actor: str, *args: object, priority: int = 4, delay_seconds: float = 0, wake: bool = True
    ) -> str:
        """Enqueue a message; return its id."""
        with self.database.statement() as session:
            message_id = messages.send(
                session, QUEUE, actor, args, priority=priority, delay=timedelta(seconds=delay_seconds)
            )
        if wake:
            self.wake()
        return message_id

    def fill(
        self,
        actor: str,
        count: int,
        *,
        priority: int = 4,
        delay_seconds: float = 0,
        spread_seconds: float = 0,
        scattered: bool = False,
    ) -> None:
        """Enqueue messages numbered from 1 in one statement, due in their order or in random order."""
        self.rows(
            FILL,
            actor=actor,
            count=count,
            priority=priority,
            delay=timedelta(seconds=delay_seconds),
            spread=f"{spread_seconds} s",
            scattered=scattered,
        )

    def fill_punctual(self, count: int, *, delay_seconds: float, spread_seconds: float) -> None:
        """Enqueue messages, due at random times, that fail if they run late or early."""
        self.rows(
            FILL_PUNCTUAL,
            count=count,
            delay=timedelta(seconds=delay_seconds),
            spread=timedelta(seconds=spread_seconds),
        )

    def wake(self) -> None:
        """Send NOTIFY for committed messages."""
        if self._wakeup is None:
            self._wakeup = Wakeup(self.dsn)
        self._wakeup.wake(QUEUE)

    def rows(self, sql: str, **parameters: object) -> list[Row]:
        """Return the rows of a query."""
        with self.database.statement() as session:
            return session.all(Query("test", sql), **parameters)

    def one(self, sql: str, **parameters: object) -> Any:
        """Return the only value of a query."""
        [row] = self.rows(sql, **parameters)
        return row[0]

    def run(self, sql: str) -> None:
        """Run a statement without a result."""
        with self.database.statement() as session:
            session.script(sql)

    def count(self, condition: str = "true") -> int:
        """Return the number of messages that match."""
        return int(self.one(f"SELECT count(*) FROM dramatiq.queue WHERE {condition}"))  # noqa: S608  ours

    def ran(self) -> list[int]:
        """Return the numbers that `note` wrote, in the order of the runs."""
        return [int(row[0]) for row in self.rows("SELECT number FROM ran ORDER BY id")]

    def close(self) -> None:
        """Kill its processes, most of which are busy on purpose, and close its connections."""
        for process in self._started:
            process.kill()
        if self._wakeup is not None:
            self._wakeup.close()
        self.database.close()
