"""The console while it works: one snapshot for all, long actions, stale pages, PostgreSQL away."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest
from support.console_client import PASSWORD, Browser, account, browsing, console_of
from support.prepared_instances import PreparedInstances
from support.waiting import wait_until

from console.background import Background
from console.charts import Window, charts
from console.database import Reading
from console.live import Live
from console.snapshot import snapshot
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import activity, backlog, console_actions, counters
from gateway.database.tables.activity import Operator, Via
from gateway.database.tables.backlog import Waiting
from gateway.database.tables.console_actions import ActionState
from gateway.database.tables.console_users import Role
from gateway.database.tables.counters import Increment
from gateway.domain.delivery import State
from gateway.domain.outcome import Outcome
from gateway.errors import DatabaseRefusedError
from gateway.metrics.current import CurrentConfiguration
from gateway.operate.record import Record

ANNA = Operator("anna", Via.CONSOLE, "192.0.2.1")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Yield a database for actions."""
    found = Database(database_url, application_name="test", size=2)
    yield found
    found.close()


# ---- live -----------------------------------------------------------------------------------------


async def _always() -> bool:
    return True


def test_many_viewers_cost_one_snapshot_and_nobody_costs_none(
    configuration: Configuration, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty listen: each gets every snapshot, and one is read for all. When they have left, none is."""
    taken: list[Configuration] = []

    def counted(session: Session, found: Configuration) -> object:
        taken.append(found)
        return snapshot(session, found)

    monkeypatch.setattr("console.live.snapshot", counted)
    reading = Reading(database_url)
    live = Live(reading, CurrentConfiguration(configuration))

    async def listen(events: AsyncIterator[bytes], wanted: int) -> int:
        seen = 0
        async for event in events:
            seen += event.startswith(b"event: snapshot")
            if seen == wanted:
                break
        await events.aclose()  # type: ignore[attr-defined]
        return seen

    async def look() -> None:
        assert not taken
        seen = await asyncio.gather(*(listen(live.events(_always), 3) for _ in range(50)))
        assert seen == [3] * 50
        assert len(taken) <= 4
        if live._task is not None:
            await live._task  # it ends by itself
        await live.stop()

    try:
        asyncio.run(look())
    finally:
        reading.database.close()
    assert live._listeners == 0


def test_whoever_asks_the_same_within_a_second_shares_one_statement(database_url: str) -> None:
    """`shared` calls once for equal arguments, and again for others; `query` always calls."""
    calls: list[int] = []

    def look(session: Session, number: int) -> int:
        calls.append(number)
        session.script("SELECT pg_sleep(0.05)")
        return number

    reading = Reading(database_url)

    async def ask() -> None:
        assert await asyncio.gather(*(reading.shared(look, 1) for _ in range(50))) == [1] * 50
        assert calls == [1]
        assert await reading.shared(look, 2) == 2
        assert await reading.query(look, 1) == 1
        assert calls == [1, 2, 1]

    asyncio.run(ask())
    reading.database.close()


def test_a_page_can_neither_write_nor_take_longer_than_its_limit(database_url: str) -> None:
    """PostgreSQL itself refuses both."""
    reading = Reading(database_url)
    for statement, code in (("SELECT pg_sleep(30)", "57014"), ("DELETE FROM findings", "25006")):
        with pytest.raises(DatabaseRefusedError) as refused:
            reading.read(lambda session, sql=statement: session.script(sql))  # type: ignore[misc]
        assert refused.value.sqlstate == code
    reading.database.close()


# ---- long actions -----------------------------------------------------------------------------------


def test_a_long_action_runs_in_slices_and_is_recorded_once(database: Database) -> None:
    """Progress is in the row after each slice; the record has one row for all."""
    left = [200, 200, 12]

    def step(found: Database, record: Record) -> int:
        if not left:
            return 0
        with found.transaction() as session:
            record(session, left[0])
        return left.pop(0)

    async def run() -> int:
        background = Background(database)
        started = await background.start(ANNA, "retry", "dead to PACS", 412, step)
        await background.finished()
        await background.stop()
        return started

    found = asyncio.run(_get(database, asyncio.run(run())))
    assert (found.done, found.total, found.state) == (412, 412, ActionState.DONE)
    with database.statement() as session:
        [row] = activity.page(session, limit=5)
    assert (row.who, row.verb, row.count, row.outcome) == ("anna", "retry", 412, "412 of 412")


async def _get(database: Database, action_id: int) -> console_actions.LongAction:
    def read() -> console_actions.LongAction:
        with database.statement() as session:
            found = console_actions.get(session, action_id)
        assert found is not None
        return found

    return await anyio.to_thread.run_sync(read)


def test_after_a_restart_the_console_says_what_was_done(database: Database) -> None:
    """A console that died left `running`; the next one ends it, with what was committed."""
    with database.transaction() as session:
        action_id = console_actions.begin(session, ANNA, "cancel", "all", 1000)
        console_actions.add(session, action_id, 400)
    [stopped] = Background(database).resume()
    assert (stopped.state, stopped.done) == (ActionState.STOPPED, 400)
    assert not Background(database).resume()
    with database.statement() as session:
        [row] = activity.page(session, limit=5)
    assert row.outcome == "400 of 1,000: the console ended before it was complete"


def test_an_action_that_fails_says_how_many_are_done(database: Database) -> None:
    """The slices before stay, and the next action runs."""

    def fail(found: Database, record: Record) -> int:
        with found.transaction() as session:
            record(session, 1)
            raise DatabaseRefusedError("deadlock detected", "40P01")

    async def run() -> console_actions.LongAction:
        background = Background(database)
        started = await background.start(ANNA, "retry", "x", 5, fail)
        await background.finished()
        await background.stop()
        return await _get(database, started)

    found = asyncio.run(run())
    assert (found.state, found.done, found.note) == (ActionState.FAILED, 0, "deadlock detected")


# ---- two operators, and no database -----------------------------------------------------------------


@pytest.fixture
def admin(configuration: Configuration, database_url: str) -> Iterator[Browser]:
    """Yield a browser in which an admin has signed in; there is an operator, too."""
    account(database_url, "admin", Role.ADMIN)
    account(database_url, "otto", Role.OPERATOR)
    with browsing(console_of(configuration, database_url)) as browser:
        browser.sign_in("admin")
        yield browser


def test_a_stale_page_changes_nothing_and_shows_the_new_state(admin: Browser, database: Database) -> None:
    """Between the page and the button another admin has changed the row."""
    fields = {"name": "otto", "role": "viewer"}
    asked = admin.post("/accounts/role", {**fields, "seen": "operator"})
    assert "has changed" not in asked.text
    with database.transaction() as session:
        session.script("UPDATE console_users SET role = 'admin' WHERE name = 'otto'")
    answer = admin.post("/accounts/role", {**fields, "seen": "operator", "confirmed": "yes"})
    assert answer.status_code == 409
    assert "has changed" in answer.text
    assert re.search(r'name="seen" value="admin"', answer.text)
    with database.statement() as session:
        assert [one.outcome for one in activity.page(session, limit=5)] == []


def test_the_last_admin_stays_one_whoever_asks_at_once(admin: Browser, database: Database) -> None:
    """Neither removed nor made something else."""
    answer = admin.confirm("/accounts/remove", {"name": "admin"})
    assert answer.status_code == 303
    answer = admin.confirm("/accounts/role", {"name": "admin", "role": "viewer"})
    assert answer.status_code == 303
    with database.statement() as session:
        assert activity.page(session, limit=5) == []


def test_accounts_are_made_and_removed_with_a_record(admin: Browser, database: Database) -> None:
    """Each step asks first, then does it, and adds a row."""
    password = {"password": PASSWORD, "again": PASSWORD}
    assert admin.confirm("/accounts/add", {"name": "berta", "role": "viewer", **password}).status_code == 303
    assert admin.confirm("/accounts/role", {"name": "berta", "role": "operator"}).status_code == 303
    assert admin.confirm("/accounts/remove", {"name": "berta"}).status_code == 303
    with database.statement() as session:
        rows = activity.page(session, limit=5)
    assert [(one.who, one.via, one.address, one.verb, one.target) for one in reversed(rows)] == [
        ("admin", Via.CONSOLE, "127.0.0.1", verb, "berta")
        for verb in ("add-account", "change-role", "remove-account")
    ]


def test_without_postgresql_the_page_says_so_with_what_the_disk_tells(
    configuration: Configuration, database_url: str
) -> None:
    """Who has signed in sees the spool; a stranger only that it is away; an action is refused."""
    account(database_url, "viewer", Role.VIEWER)
    app = console_of(configuration, database_url)
    with browsing(app) as browser:
        browser.sign_in("viewer")
        parts = app.starlette.state.parts
        assert browser.get("/").status_code == 200
        for database in (parts.reading.database, parts.acting):
            database.close()
            database.dsn = "postgresql://127.0.0.1:1/none"
        wait_until(lambda: browser.get("/").status_code == 503, 10, "the loss to be seen")
        answer = browser.get("/")
        assert "PostgreSQL is away" in answer.text
        assert "Receptions to be registered" in answer.text or "spool is not on this machine" in answer.text
        assert browser.get("/", headers={"hx-request": "true"}).status_code == 503
        assert browser.post("/accounts/add").status_code == 503
        browser.client.cookies.clear()
        answer = browser.get("/accounts")
        assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Faccounts")
        assert "signing in needs it" in browser.get("/login").text
    assert threading.active_count() < 50


# ---- the overview --------------------------------------------------------------------------------


def test_the_overview_shows_hostile_senders_and_reasons_as_text(
    kept: PreparedInstances, database_url: str
) -> None:
    """In the picture and in the findings; the words for who does not see the picture have them, too."""
    hostile = "<b>&\"'\u202eX"
    for number in range(3):
        kept.receive(number, sender=hostile)
    kept.forward(1, State.DEAD, error=f"{hostile} " + "x" * 10_000, outcome=Outcome.REFUSED)
    account(database_url, "viewer", Role.VIEWER)
    with browsing(console_of(kept.configuration, database_url)) as browser:
        browser.sign_in("viewer")
        answer = browser.get("/")
    assert answer.status_code == 200
    assert "<b>" not in answer.text
    assert "\u202e" not in answer.text
    assert "&lt;b&gt;&amp;&#34;&#39; X" in answer.text
    assert len(answer.text) < 60_000


def test_the_charts_have_a_value_for_each_step(database: Database) -> None:
    """Every series is as long as the times; what was not counted is 0, or nothing for a backlog."""
    with database.transaction() as session:
        backlog.note(session, {"PACS": Waiting(7, 1), "default": Waiting(0, 0)})
        backlog.note(session, {"PACS": Waiting(9, 1)})
        increments = [
            Increment("instances_received", {"calling_aet": "CT", "kind": "original"}, 12),
            Increment("end_to_end_seconds_bucket", {"destination": "PACS", "le": "0.5"}, 4),
            Increment("end_to_end_seconds_bucket", {"destination": "PACS", "le": "+Inf"}, 1),
        ]
        counters.add(session, increments)
        for window, steps in ((Window.HOUR, 61), (Window.DAY, 145)):
            found = charts(session, window)
            for name in ("throughput", "latency", "backlog"):
                names, data = found[name]["names"], found[name]["data"]
                assert len(data) == len(names) + 1
                assert {len(one) for one in data} == {steps}
            assert sum(found["throughput"]["data"][1]) == pytest.approx(12 if window is Window.HOUR else 1.2)
            assert max(one for one in found["backlog"]["data"][1] if one is not None) == 9
