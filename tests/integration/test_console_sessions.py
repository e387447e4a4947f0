"""When a session of the console begins and ends, and what its cookie is."""

from collections.abc import Iterator

import pytest
from support.console_client import Browser, account_of_each_role, browsing, console_of, execute

from console.guard import Guard
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.tables import console_users
from gateway.database.tables.console_users import Role

MANY = 50


@pytest.fixture
def app(configuration: Configuration, database_url: str) -> Guard:
    """Return a console with an account of each role: viewer, operator, admin."""
    account_of_each_role(database_url)
    return console_of(configuration, database_url)


@pytest.fixture
def browser(app: Guard) -> Iterator[Browser]:
    """Yield a browser on this machine that nobody has signed in with."""
    with browsing(app) as found:
        yield found


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Yield a database to look into, and for sessions."""
    found = Database(database_url, application_name="test", size=3)
    yield found
    found.close()


def test_a_session_ends_without_use_and_at_its_age(browser: Browser, database: Database, app: Guard) -> None:
    """An operator's session ends after `idle_minutes`, whatever its open pages ask for."""
    browser.sign_in("operator")
    sessions = app.starlette.state.parts.sessions
    unused, old = (
        "UPDATE console_sessions SET used_at = now() - interval '31 min' RETURNING 1",
        "UPDATE console_sessions SET created_at = now() - interval '13 h' RETURNING 1",
    )
    for change in (unused, old):
        execute(database, change)
        sessions.forget("operator")
        assert browser.get("/").status_code == 303
        assert execute(database, "SELECT count(*) FROM console_sessions") == [(0,)]
        browser.client.cookies.clear()
        browser.sign_in("operator")


def test_open_pages_keep_the_session_of_a_viewer_only(
    browser: Browser, database: Database, app: Guard
) -> None:
    """A screen on the wall stays signed in as viewer; an operator who left does not."""
    for role, kept in ((Role.VIEWER, True), (Role.OPERATOR, False)):
        browser.client.cookies.clear()
        browser.sign_in(role.value)
        execute(
            database,
            "UPDATE console_sessions SET used_at = now() - interval '20 min' WHERE name = %(name)s "
            "RETURNING 1",
            name=role.value,
        )
        app.starlette.state.parts.sessions._seen.clear()
        assert browser.get("/", headers={"hx-request": "true", "x-live": "1"}).status_code == 200
        [(is_used,)] = execute(
            database,
            "SELECT used_at > now() - interval '1 min' FROM console_sessions WHERE name = %(name)s",
            name=role.value,
        )
        assert is_used is kept


def test_the_cookie_is_not_in_the_database_and_ends_with_signing_out(
    browser: Browser, database: Database
) -> None:
    """HttpOnly, SameSite=Strict, opaque; the table has its SHA-256; after signing out it counts no more."""
    answer = browser.sign_in("viewer")
    [header] = [one for one in answer.headers.get_list("set-cookie") if one.startswith("mini_pacs_session=")]
    assert "HttpOnly" in header
    assert "SameSite=strict" in header
    token = browser.client.cookies["mini_pacs_session"]
    assert execute(database, "SELECT token_hash FROM console_sessions")[0][0] is not None
    with database.statement() as session:
        assert len(console_users.sessions(session, [console_users.digest(token)])) == 1
    browser.get("/")
    assert browser.post("/logout").status_code == 303
    browser.client.cookies.set("mini_pacs_session", token, domain="localhost.local")
    assert browser.get("/").status_code == 303


def test_signing_in_makes_a_new_session(browser: Browser) -> None:
    """A cookie that somebody planted before is not taken over."""
    browser.client.cookies.set("mini_pacs_session", "planted", domain="localhost.local")
    browser.get("/login")
    browser.sign_in("viewer")
    assert "planted" not in [one.value for one in browser.client.cookies.jar]


def test_a_new_password_ends_the_sessions(app: Guard, browser: Browser) -> None:
    """An admin sets it; the other browser is out."""
    with browsing(app) as other:
        other.sign_in("operator")
        assert other.get("/").status_code == 200
        browser.sign_in("admin")
        fields = {"name": "operator", "password": "another long one", "again": "another long one"}
        assert browser.confirm("/accounts/password", fields).status_code == 303
        assert other.get("/").status_code == 303
