"""Many who look at the console cost PostgreSQL one transaction, and each is out when its session ends."""

import asyncio
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from conftest import Reconfigure
from support.console_client import account, browsing, console_of, execute

from console.access import new_secret
from console.database import Reading
from console.live import Live
from console.sessions import CHECKED_SECONDS, USED_SECONDS, ConsoleSession, Sessions
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.queries import Query
from gateway.database.session import Session
from gateway.database.tables import console_users
from gateway.database.tables.console_users import Role, SessionRow
from gateway.errors import DatabaseUnavailableError
from gateway.metrics.current import CurrentConfiguration

MANY = 50


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Yield a database to look into, and for sessions."""
    found = Database(database_url, application_name="test", size=3)
    yield found
    found.close()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return of how many sessions each transaction has asked, so far."""
    found: list[int] = []
    real = console_users.sessions

    def counted(session: Session, token_hashes: Collection[bytes]) -> list[SessionRow]:
        found.append(len(token_hashes))
        return real(session, token_hashes)

    monkeypatch.setattr(console_users, "sessions", counted)
    return found


def begun(database: Database, name: str, role: Role, count: int = 1) -> list[str]:
    """Return the cookies of new sessions of a new account."""
    account(database.dsn, name, role, password=False)
    tokens = [new_secret() for _ in range(count)]
    with database.transaction() as session:
        for token in tokens:
            console_users.begin_session(session, name, token, "127.0.0.1")
    return tokens


def later(sessions: Sessions, seconds: float = CHECKED_SECONDS) -> None:
    """Let that much time pass for the sessions that are remembered."""
    for seen in sessions._seen.values():
        seen.checked -= seconds
        seen.used -= seconds


async def look(sessions: Sessions, tokens: list[str]) -> list[ConsoleSession | None]:
    """Ask for all of them at once, as pages do by themselves."""
    return await asyncio.gather(*(sessions.find(token, uses=False, fresh=False) for token in tokens))


def test_many_sessions_that_look_are_read_in_one_transaction(database: Database, reads: list[int]) -> None:
    """None within CHECKED_SECONDS, then one for all; whoever is gone is not read."""
    tokens = begun(database, "wall", Role.VIEWER, MANY)
    sessions = Sessions(database, timedelta(minutes=30))

    async def follow() -> None:
        assert await look(sessions, tokens) == [ConsoleSession("wall", Role.VIEWER)] * MANY
        assert reads == [1] * MANY
        await look(sessions, tokens)
        assert len(reads) == MANY
        later(sessions)
        assert await look(sessions, tokens) == [ConsoleSession("wall", Role.VIEWER)] * MANY
        assert reads[MANY:] == [MANY]
        for key, seen in sessions._seen.items():
            seen.asked -= 0 if key == console_users.digest(tokens[0]) else CHECKED_SECONDS
        later(sessions)
        await look(sessions, tokens[:1])
        assert reads[MANY:] == [MANY, 1]

    asyncio.run(follow())


def test_a_check_of_all_ends_those_that_were_removed_or_are_too_old(
    database: Database, reads: list[int]
) -> None:
    """A signed-out session, that of a removed account and an unused one are out; a new role counts."""
    out, kept = begun(database, "wall", Role.VIEWER, 2)
    [gone] = begun(database, "gone", Role.OPERATOR)
    [idle] = begun(database, "idle", Role.OPERATOR)
    [lower] = begun(database, "lower", Role.ADMIN)
    tokens = [out, kept, gone, idle, lower]
    sessions = Sessions(database, timedelta(minutes=30))

    async def follow() -> None:
        await look(sessions, tokens)
        execute(
            database,
            "DELETE FROM console_sessions WHERE token_hash = %(t)s RETURNING 1",
            t=console_users.digest(out),
        )
        execute(database, "DELETE FROM console_users WHERE name = 'gone' RETURNING 1")
        execute(
            database,
            "UPDATE console_sessions SET used_at = now() - interval '31 min' WHERE name = 'idle' RETURNING 1",
        )
        execute(database, "UPDATE console_users SET role = 'viewer' WHERE name = 'lower' RETURNING 1")
        later(sessions)
        wall, lowered = ConsoleSession("wall", Role.VIEWER), ConsoleSession("lower", Role.VIEWER)
        assert await look(sessions, tokens) == [None, wall, None, None, lowered]
        assert reads[len(tokens) :] == [len(tokens)]

    asyncio.run(follow())
    assert execute(database, "SELECT name FROM console_sessions ORDER BY name") == [("lower",), ("wall",)]


def test_a_check_of_all_keeps_the_sessions_of_viewers(database: Database, reads: list[int]) -> None:
    """Their time of use is written in the same transaction; that of an operator's open page is not."""
    tokens = begun(database, "wall", Role.VIEWER, 2) + begun(database, "otto", Role.OPERATOR)
    sessions = Sessions(database, timedelta(minutes=30))

    async def follow() -> None:
        await look(sessions, tokens)
        execute(
            database, "UPDATE console_sessions SET used_at = now() - interval '20 min' RETURNING token_hash"
        )
        later(sessions, USED_SECONDS)
        await look(sessions, tokens)

    asyncio.run(follow())
    assert reads == [1, 1, 1, 3]
    used = "SELECT name, used_at > now() - interval '1 min' FROM console_sessions ORDER BY name"
    assert execute(database, used) == [("otto", False), ("wall", True), ("wall", True)]


def test_a_check_of_all_waits_for_no_row(database: Database) -> None:
    """An admin's transaction that holds a session, for example to remove it, delays no page."""
    tokens = begun(database, "wall", Role.VIEWER, 2)
    sessions = Sessions(database, timedelta(minutes=30))

    async def follow() -> None:
        await look(sessions, tokens)
        later(sessions, USED_SECONDS)
        with database.transaction() as session:
            session.all(Query("test", "SELECT FROM console_sessions FOR UPDATE"))
            assert await look(sessions, tokens) == [ConsoleSession("wall", Role.VIEWER)] * 2

    asyncio.run(follow())


def test_a_check_that_began_before_a_change_does_not_undo_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sign-out, and an account that is changed, while the rows of before are on their way."""
    tokens = begun(database, "otto", Role.OPERATOR, 2)
    sessions = Sessions(database, timedelta(minutes=30))
    has_read, may_go = threading.Event(), threading.Event()
    real = console_users.sessions

    def held(session: Session, token_hashes: Collection[bytes]) -> list[SessionRow]:
        rows = real(session, token_hashes)
        if not has_read.is_set():
            has_read.set()
            assert may_go.wait(30)
        return rows

    async def follow() -> None:
        await look(sessions, tokens)
        later(sessions)
        monkeypatch.setattr(console_users, "sessions", held)
        looking = asyncio.ensure_future(look(sessions, tokens))
        await asyncio.to_thread(has_read.wait, 30)
        await sessions.end(tokens[0])
        execute(database, "UPDATE console_users SET role = 'viewer' WHERE name = 'otto' RETURNING 1")
        sessions.forget("otto")
        may_go.set()
        assert await looking == [None, ConsoleSession("otto", Role.VIEWER)]

    asyncio.run(follow())


def test_without_postgresql_who_has_looked_may_look_on_and_nobody_acts(database: Database) -> None:
    """Whoever is known may read what needs no rows; a change and a stranger raise."""
    tokens = begun(database, "wall", Role.VIEWER, 3)
    sessions = Sessions(database, timedelta(minutes=30))

    async def follow() -> None:
        await look(sessions, tokens[:2])
        later(sessions)
        database.close()
        database.dsn = "postgresql://127.0.0.1:1/none"
        assert await look(sessions, tokens[:2]) == [ConsoleSession("wall", Role.VIEWER)] * 2
        for token, fresh in ((tokens[0], True), (tokens[2], False)):
            with pytest.raises(DatabaseUnavailableError):
                await sessions.find(token, uses=False, fresh=fresh)
        for seen in sessions._seen.values():
            seen.last_request -= 31 * 60
        assert await look(sessions, tokens[:2]) == [None, None]

    asyncio.run(follow())


@contextmanager
def live(configuration: Configuration, dsn: str) -> Iterator[Live]:
    """Yield the events of a console."""
    reading = Reading(dsn)
    try:
        yield Live(reading, CurrentConfiguration(configuration))
    finally:
        reading.database.close()


def test_events_end_with_the_session(
    configuration: Configuration, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many that follow, the stream of the session that is deleted ends by itself, and no other."""
    monkeypatch.setattr("console.sessions.CHECKED_SECONDS", 0.1)
    stays, ends = begun(database, "wall", Role.VIEWER, 2)
    sessions = Sessions(database, timedelta(minutes=30))

    async def follow(events: Live) -> None:
        async def wait(token: str, seen: asyncio.Event) -> None:
            async def may_look() -> bool:
                return await sessions.find(token, uses=False, fresh=False) is not None

            async for event in events.events(may_look):
                if event.startswith(b"event: snapshot"):
                    seen.set()

        seen = asyncio.Event()
        other = asyncio.ensure_future(wait(stays, asyncio.Event()))
        own = asyncio.ensure_future(wait(ends, seen))
        await seen.wait()
        execute(
            database,
            "DELETE FROM console_sessions WHERE token_hash = %(t)s RETURNING 1",
            t=console_users.digest(ends),
        )
        await asyncio.wait_for(own, 30)
        assert not other.done()
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
        await events.stop()

    with live(configuration, database.dsn) as events:
        asyncio.run(follow(events))


def test_accounts_of_a_proxy_are_read_once_a_second_for_all(
    reconfigure: Reconfigure, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages share what was read; an action asks for its own account anew."""
    names = [account(database_url, f"v{number}", Role.OPERATOR, password=False) for number in range(10)]
    found = reconfigure({"console": {"trusted_header": "X-Remote-User", "trusted_proxy": "192.0.2.9"}})
    asked: list[str] = []
    roles, role_of = console_users.roles, console_users.role_of

    def all_roles(session: Session) -> dict[str, Role]:
        asked.append("all")
        return roles(session)

    def one_role(session: Session, name: str) -> Role | None:
        asked.append(name)
        return role_of(session, name)

    monkeypatch.setattr(console_users, "roles", all_roles)
    monkeypatch.setattr(console_users, "role_of", one_role)
    monkeypatch.setattr("console.database.SHARED_SECONDS", 60.0)
    with browsing(console_of(found, database_url), "192.0.2.9") as proxy:
        for name in names:
            assert proxy.get("/account", headers={"X-Remote-User": name}).status_code == 200
        assert asked == ["all"]
        proxy.post("/deliveries/retry", X_Remote_User="v3")
        assert proxy.get("/account", headers={"X-Remote-User": "nobody"}).status_code == 303
        assert asked == ["all", "v3", "nobody"]
