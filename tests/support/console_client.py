"""The console without a server: requests go into the application, as from a browser at an address."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from starlette.testclient import TestClient

from console.access import csrf_of
from console.app import application
from console.first_link import FirstLink
from console.guard import Guard
from console.sign_in import hashed
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.queries import Query
from gateway.database.tables import console_users
from gateway.database.tables.console_users import Role

URL = "http://localhost:8080"
PASSWORD = "correct horse battery"  # noqa: S105  of the accounts of a test
_HASH: list[str] = []


class Browser:
    """A browser with its cookies. Its forms have an Origin and the CSRF token of the last page."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.csrf = ""

    def get(self, path: str, **more: Any) -> Any:
        """Get a page, and keep its CSRF token."""
        answer = self.client.get(path, **more)
        found = re.search(r'name="csrf" value="([0-9a-f]{64})"', answer.text)
        self.csrf = found[1] if found else self.csrf
        return answer

    def post(self, path: str, fields: Mapping[str, str] | None = None, **headers: str) -> Any:
        """Post a form as a page of the console does. A header that is empty is left out."""
        given = {"origin": URL, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.client.post(
            path,
            data={"csrf": self.csrf, **(fields or {})},
            headers={name: value for name, value in given.items() if value},
        )

    def confirm(self, path: str, fields: Mapping[str, str]) -> Any:
        """Post a form, read what the page shows, and press its button."""
        asked = self.post(path, fields)
        assert asked.status_code == 200, asked.text
        seen = re.search(r'name="seen" value="([^"]*)"', asked.text)
        assert seen, asked.text
        return self.post(path, {**fields, "seen": seen[1], "confirmed": "yes"})

    def sign_in(self, name: str, password: str = PASSWORD) -> Any:
        """Sign in; return the answer."""
        self.get("/login")
        answer = self.post("/login", {"name": name, "password": password})
        if answer.status_code == 303:
            self.csrf = csrf_of(self.session)
        return answer

    @property
    def session(self) -> str:
        """Return the cookie of the session."""
        return next(one.value or "" for one in self.client.cookies.jar if one.name == "mini_pacs_session")


@contextmanager
def browsing(app: Guard, address: str = "127.0.0.1", url: str = URL) -> Iterator[Browser]:
    """Yield a browser at that address."""
    with TestClient(app, base_url=url, follow_redirects=False, client=(address, 50000)) as client:
        yield Browser(client)


def console_of(configuration: Configuration, dsn: str, *, link: FirstLink | None = None) -> Guard:
    """Return the application of the console."""
    return application(configuration, dsn, link=link)


def account(dsn: str, name: str, role: Role, *, password: bool = True) -> str:
    """Make an account with PASSWORD; return its name."""
    if password and not _HASH:
        _HASH.append(hashed(PASSWORD))
    database = Database(dsn, application_name="test", size=1)
    with database.transaction() as session:
        assert console_users.add(session, name, role, _HASH[0] if password else None, by="test")
    database.close()
    return name


def account_of_each_role(dsn: str) -> None:
    """Make the accounts viewer, operator and admin, each with the role of its name."""
    for role in Role:
        account(dsn, role.value, role)


def execute(database: Database, sql: str, **values: object) -> list[tuple[object, ...]]:
    """Run a statement of a test; return its rows."""
    with database.transaction() as session:
        return session.all(Query("test", sql), **values)
