"""The rules that keep strangers, foreign sites and wrong roles out of the console."""

import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from conftest import Reconfigure
from starlette.routing import Route
from support.console_client import (
    PASSWORD,
    URL,
    Browser,
    account,
    account_of_each_role,
    browsing,
    console_of,
    execute,
)

from console.first_link import LASTS_SECONDS, FirstLink
from console.guard import FIELDS_MOST, POLICY, Guard
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.tables.console_users import FAILURES_OF_ADDRESS, FAILURES_OF_USER, Role

INLINE = re.compile(r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?![^>]*\ssrc=)")
HOSTILE = "<script>alert(1)</script>\"'\u202e\x1b[2J" + "x" * 10_000


FIELDS = (
    *("name", "role", "password", "again", "back", "seen", "next", "confirmed", "until", "reason", "lasting"),
    *(
        "ae_title",
        "delivery",
        "study",
        "series",
        "application",
        "target",
        "worker",
        "state",
        "all",
        "message",
    ),
    *("word", "value", "stage", "duration"),
)
"""The fields of all forms."""


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
    """Yield a database to look into."""
    found = Database(database_url, application_name="test", size=1)
    yield found
    found.close()


def posted_paths(app: Guard) -> list[str]:
    """Return every path that something can be posted to."""
    routes = [one for one in app.starlette.routes if isinstance(one, Route)]
    return [one.path.replace("{token}", "x") for one in routes if "POST" in (one.methods or ())]


def pages(app: Guard) -> list[str]:
    """Return every page without a parameter that needs an account."""
    routes = [one for one in app.starlette.routes if isinstance(one, Route)]
    found = [one.path for one in routes if "GET" in (one.methods or ()) and "{" not in one.path]
    return [path for path in found if path not in {"/login", "/health", "/live"}]


# ---- who may -------------------------------------------------------------------------------------


def test_nobody_sees_a_page_without_signing_in(app: Guard, browser: Browser) -> None:
    """Each page leads to the form; parts of pages and events say 401."""
    for path in pages(app):
        answer = browser.get(path)
        assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/login"), path
        assert browser.get(path, headers={"hx-request": "true"}).status_code == 401
    assert browser.get("/live").status_code == 401


def test_the_form_leads_back_to_the_page_but_to_no_other_site(browser: Browser) -> None:
    """`next` is a path of this console, or it is ignored."""
    for given, wanted in (
        ("/accounts?x=1", "/accounts?x=1"),
        ("//evil.example/", "/"),
        ("https://evil.example/", "/"),
        ("/\\evil.example", "/"),
    ):
        browser.client.cookies.clear()
        browser.get("/login")
        answer = browser.post("/login", {"name": "viewer", "password": PASSWORD, "next": given})
        assert (answer.status_code, answer.headers["location"]) == (303, wanted)


@pytest.mark.parametrize("role", list(Role))
def test_an_action_needs_its_role(browser: Browser, role: Role) -> None:
    """Accounts are for admins; the answer says which role is missing, and nothing is done."""
    browser.sign_in(role.value)
    answer = browser.post("/accounts/remove", {"name": "viewer"})
    assert answer.status_code == (200 if role is Role.ADMIN else 403)
    assert ("needs the role" in answer.text) == (role is not Role.ADMIN)
    assert browser.get("/accounts").status_code == (200 if role is Role.ADMIN else 403)


def test_a_removed_account_is_out_at_its_next_action(browser: Browser, database: Database) -> None:
    """An action asks PostgreSQL who may, whatever is remembered."""
    browser.sign_in("admin")
    execute(database, "DELETE FROM console_users WHERE name = 'admin' RETURNING 1")
    answer = browser.post("/accounts/remove", {"name": "viewer"})
    assert (answer.status_code, answer.text.startswith("Refused")) == (403, True)
    assert browser.get("/").status_code == 303


# ---- foreign sites -------------------------------------------------------------------------------


def test_every_post_needs_the_token_of_its_session(app: Guard, browser: Browser) -> None:
    """Without a token, with that of another visit or of nobody, nothing that is posted reaches an action."""
    browser.get("/login")
    of_visit = browser.csrf
    browser.sign_in("admin")
    assert browser.csrf != of_visit
    for path in posted_paths(app):
        for token in ("", "0" * 64, of_visit, browser.csrf[:-1], "é"):
            answer = browser.client.post(path, data={"csrf": token}, headers={"origin": URL})
            assert answer.status_code == 403, (path, token)


def test_every_post_needs_the_origin_of_the_console(app: Guard, browser: Browser) -> None:
    """A foreign Origin, none, or `null` is refused, also with the right token."""
    browser.sign_in("admin")
    for path in posted_paths(app):
        for origin in ("https://evil.example", "null", "", "http://localhost:8081", "http://localhost"):
            assert browser.post(path, origin=origin).status_code == 403, (path, origin)
        assert browser.post(path, sec_fetch_site="cross-site").status_code == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:8080", "", "a" * 5000, "x/@localhost"]
)
def test_an_unknown_host_gets_nothing(browser: Browser, host: str) -> None:
    """A site whose name is made to lead here reads nothing, not even a style sheet."""
    for path in ("/", "/login", "/static/console.css", "/health"):
        answer = browser.client.get(path, headers={"host": host})
        assert answer.status_code == 400
        assert answer.headers["content-security-policy"] == POLICY


def test_hosts_of_the_configuration_are_known(reconfigure: Reconfigure, database_url: str) -> None:
    """`console.hosts` are names beside localhost."""
    found = reconfigure({"console": {"hosts": ["console.hospital"]}})
    with browsing(console_of(found, database_url), url="http://console.hospital") as browser:
        assert browser.get("/login").status_code == 200


def test_every_answer_has_the_policy(app: Guard, browser: Browser) -> None:
    """Pages, parts, files, redirects and errors: no script, style or frame from elsewhere, none inline."""
    browser.sign_in("admin")
    answers = [browser.get(path) for path in (*pages(app), "/static/console.js", "/nowhere", "/first/x")]
    answers += [browser.post("/accounts/add"), browser.post("/nowhere"), browser.client.put("/")]
    answers += [browser.client.post("/logout", data={"x": "x"}), browser.get("/static/../app.py")]
    for answer in answers:
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        if answer.headers.get("content-type", "").startswith("text/html"):
            assert not re.search(
                r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?![^>]*\ssrc=)", answer.text
            )
            assert answer.headers["cache-control"] == "no-store"


def test_a_defect_answers_500_with_the_policy_and_no_detail(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A traceback goes to the log, not to a browser."""
    browser.sign_in("admin")
    monkeypatch.setattr("console.pages.accounts.page", lambda *_, **__: 1 // 0)
    answer = browser.get("/accounts")
    assert answer.status_code == 500
    assert "ZeroDivision" not in answer.text
    assert answer.headers["content-security-policy"] == POLICY


# ---- brute force ---------------------------------------------------------------------------------


def test_failures_lock_an_account_also_for_the_right_password(browser: Browser, database: Database) -> None:
    """After the lock has ended, the right password counts again."""
    for _ in range(FAILURES_OF_USER):
        answer = browser.sign_in("operator", "wrong")
        assert answer.status_code == 401
    assert browser.sign_in("operator").status_code == 401
    assert browser.sign_in("viewer").status_code == 303
    execute(database, "UPDATE console_users SET locked_until = now() RETURNING 1")
    browser.client.cookies.clear()
    assert browser.sign_in("operator").status_code == 303


def test_failures_lock_an_address(app: Guard, database: Database) -> None:
    """Many names from one address: it is refused for all accounts; another address is not."""
    with browsing(app, "192.0.2.1") as stranger:
        for number in range(FAILURES_OF_ADDRESS):
            assert stranger.sign_in(f"nobody{number}", "wrong").status_code == 401
        assert stranger.sign_in("viewer").status_code == 401
    with browsing(app, "192.0.2.2") as other:
        assert other.sign_in("viewer").status_code == 303
    assert execute(database, "SELECT count(*) FROM console_failures") == [(1,)]


def test_unknown_names_get_the_same_answer_after_the_same_work(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hash is verified in both cases, and the page is the same."""
    verified: list[str] = []

    def counted(password_hash: str, _: str) -> bool:
        verified.append(password_hash)
        return False

    monkeypatch.setattr("console.sign_in.verified", counted)
    answers = [browser.sign_in(name, "wrong") for name in ("viewer", "nobody", "x" * 5000)]
    assert len(verified) == 3
    assert {answer.status_code for answer in answers} == {401}
    shown = {re.search(r'role="alert">.*?</p>', answer.text, re.DOTALL)[0] for answer in answers}  # type: ignore[index]
    assert len(shown) == 1


# ---- the first account ---------------------------------------------------------------------------


def test_the_first_link_makes_one_admin_once(configuration: Configuration, database_url: str) -> None:
    """It counts from this machine only, once; then it is gone."""
    link = FirstLink()
    path = f"/first/{link.make()}"
    app = console_of(configuration, database_url, link=link)
    with browsing(app, "192.0.2.7") as stranger:
        assert stranger.get(path).status_code == 404
    with browsing(app) as browser:
        assert browser.get("/first/wrong").status_code == 404
        assert browser.get(path).status_code == 200
        fields = {"name": "anna", "password": PASSWORD, "again": PASSWORD}
        assert browser.post(path, {**fields, "again": "x"}).status_code == 400
        assert browser.post(path, {**fields, "password": "short", "again": "short"}).status_code == 400
        assert browser.post(path, {**fields, "name": HOSTILE}).status_code == 400
        assert browser.post(path, fields).status_code == 303
        assert browser.get("/accounts").status_code == 200
        assert browser.get(path).status_code == 404
        assert browser.post(path, fields).status_code == 404


def test_the_first_link_does_nothing_where_there_is_an_account(
    configuration: Configuration, database_url: str
) -> None:
    """Somebody made one on the command line meanwhile."""
    link = FirstLink()
    path = f"/first/{link.make()}"
    with browsing(console_of(configuration, database_url, link=link)) as browser:
        browser.get(path)
        account(database_url, "first", Role.VIEWER)
        answer = browser.post(path, {"name": "anna", "password": PASSWORD, "again": PASSWORD})
        assert answer.status_code == 404


def test_the_first_link_expires() -> None:
    """After 15 minutes it counts no more; a new one replaces an old one."""
    now = [0.0]
    link = FirstLink(lambda: now[0])
    token = link.make()
    now[0] = LASTS_SECONDS
    assert link.counts(token, "127.0.0.1")
    assert link.counts(token, "::1")
    assert link.counts(token, "::ffff:127.0.0.1")
    assert not link.counts(token, "10.0.0.1")
    now[0] += 1
    assert not link.counts(token, "127.0.0.1")
    old, _ = link.make(), link.make()
    assert not link.counts(old, "127.0.0.1")


# ---- the reverse proxy ---------------------------------------------------------------------------


def test_the_header_of_a_proxy_counts_from_its_address_only(
    reconfigure: Reconfigure, database_url: str
) -> None:
    """And for accounts only; one that another address sends is ignored, as are several and long ones."""
    account(database_url, "anna@hospital", Role.OPERATOR, password=False)
    found = reconfigure({"console": {"trusted_header": "X-Remote-User", "trusted_proxy": "192.0.2.0/28"}})
    app = console_of(found, database_url)
    header = {"X-Remote-User": "anna@hospital"}
    with browsing(app, "192.0.2.9") as proxy:
        assert proxy.get("/", headers=header).status_code == 200
        assert proxy.get("/", headers={"X-Remote-User": "nobody"}).status_code == 303
        assert proxy.get("/", headers={"X-Remote-User": "x" * 3000}).status_code == 303
        assert proxy.get("/").status_code == 303
        assert proxy.post("/accounts/add", X_Remote_User="anna@hospital").status_code == 403
    for address in ("192.0.2.200", "127.0.0.1", "::1", "testclient"):
        with browsing(app, address) as other:
            assert other.get("/", headers=header).status_code == 303
    with browsing(app) as browser:
        assert browser.sign_in("anna@hospital", "").status_code == 401, "it has no password"


def test_without_the_key_no_header_counts(browser: Browser) -> None:
    """It is off by default."""
    assert browser.get("/", headers={"X-Remote-User": "admin"}).status_code == 303
    assert (
        browser.get("/", headers={"X-Forwarded-For": "127.0.0.1", "Remote-User": "admin"}).status_code == 303
    )


# ---- hostile input -------------------------------------------------------------------------------


def test_hostile_text_is_never_markup(app: Guard, browser: Browser) -> None:
    """Wherever a page shows what was typed, it is text; a control character is not even that."""
    browser.sign_in("admin")
    for path in posted_paths(app):
        if path == "/logout":
            continue
        answer = browser.post(path, dict.fromkeys(FIELDS, HOSTILE))
        assert answer.status_code < 500, path
        assert "<script>alert" not in answer.text, path
    for path in ("/studies/", "/deliveries/", "/first/", "/"):
        answer = browser.get(path + quote(HOSTILE, safe=""))
        assert answer.status_code == 404, path
        assert "<script>alert" not in answer.text
        assert "\u202e" not in answer.text
    browser.client.cookies.set("theme", '"><script>alert(1)</script>', domain="localhost.local")
    browser.client.cookies.set("mini_pacs_flash", "bm90IGpzb24=", domain="localhost.local")
    for path in pages(app):
        answer = browser.get(f"{path}?q=%3Cscript%3Ealert(1)%3C/script%3E&after=%00&x=%ff")
        assert answer.status_code < 500, path
        assert "<script>alert" not in answer.text, path


def test_a_form_that_is_too_large_or_unreadable_is_refused(browser: Browser) -> None:
    """Its size, its number of fields, its kind."""
    browser.get("/login")
    assert browser.post("/login", {"name": "x" * 70_000}).status_code == 413
    many = {f"f{number}": "" for number in range(FIELDS_MOST + 1)}
    assert browser.post("/login", many).status_code == 400
    headers = {"origin": URL, "content-type": "application/json"}
    assert browser.client.post("/login", content=b"{}", headers=headers).status_code == 415
    headers["content-type"] = "application/x-www-form-urlencoded"
    assert browser.client.post("/login", content=b"name=\xff", headers=headers).status_code == 400
