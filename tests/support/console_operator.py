"""A signed-in account of the console that acts: it posts forms, confirms, and reads the answer."""

import html
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from console.access import csrf_of, new_secret, session_cookie
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.tables import console_users
from gateway.database.tables.console_users import Role
from support.console_client import Browser, account, browsing, console_of

_HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')
_FLASH = re.compile(r'<p class="flash flash-(?:ok|note|bad)" role="status">(.*?)</p>', re.DOTALL)


class SignedIn:
    """An account in a browser without scripts."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    def get(self, path: str, status: int = 200) -> str:
        """Return the text of a page."""
        answer = self.browser.get(path)
        assert answer.status_code == status, answer.text
        return str(answer.text)

    def post(self, path: str, fields: Mapping[str, str] | None = None) -> Any:
        """Post a form; return the answer."""
        return self.browser.post(path, fields)

    def act(self, path: str, fields: Mapping[str, str] | None = None, **asked: str) -> str:
        """Post a form, confirm what the console asks, and return the sentence that it says."""
        question = self.post(path, fields)
        assert question.status_code == 200, question.text
        return self.confirm(path, question, **asked)

    def confirm(self, path: str, question: Any, **asked: str) -> str:
        """Confirm a question; return the sentence that the console says."""
        return self.said(self.post(path, {**carried(question), **asked}))

    def said(self, answer: Any) -> str:
        """Return the sentence that the page after an action shows."""
        assert answer.status_code == 303, answer.text
        page = self.browser.get(answer.headers["location"]).text
        found = _FLASH.search(page)
        assert found is not None, page
        return html.unescape(re.sub(r"<[^>]*>", "", found[1])).strip()


def carried(question: Any) -> dict[str, str]:
    """Return the hidden fields of the form that asks."""
    form = question.text[question.text.index('<form class="confirm"') :]
    return {name: html.unescape(value) for name, value in _HIDDEN.findall(form) if name != "csrf"}


@contextmanager
def signed_in(
    configuration: Configuration, dsn: str, role: Role = Role.OPERATOR, name: str = "anna"
) -> Iterator[SignedIn]:
    """Yield a browser with a session of a new account. No password is hashed, which would take long."""
    account(dsn, name, role, password=False)
    token = new_secret()
    database = Database(dsn, application_name="test", size=1)
    with database.transaction() as session:
        console_users.begin_session(session, name, token, "127.0.0.1")
    database.close()
    with browsing(console_of(configuration, dsn)) as browser:
        browser.client.cookies.set(session_cookie(configuration.console), token)
        browser.csrf = csrf_of(token)
        yield SignedIn(browser)
