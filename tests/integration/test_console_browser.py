"""The console in a real Chromium: live without a reload, dialogs, themes, and no violation of its policy."""

import re
from collections.abc import Iterator

import pytest
from conftest import MakeEdge
from playwright.sync_api import Page, expect
from support.browser import chromium
from support.console_client import PASSWORD, account
from support.edge_setup import EdgeSetup

from gateway.database.tables import pauses
from gateway.database.tables.console_users import Role
from gateway.lab import layout

LONG_MS = 60_000
"""For a page or a snapshot on a busy machine."""


@pytest.fixture
def edge(make_edge: MakeEdge) -> EdgeSetup:
    """Return an edge with an admin, whose console listens."""
    edge = make_edge()
    account(edge.dsn, "anna", Role.ADMIN)
    return edge


@pytest.fixture
def page(edge: EdgeSetup) -> Iterator[Page]:
    """Yield a page on which anna has signed in; fail if the browser complained about anything."""
    [port] = layout.free_ports(1)
    console = edge.start("mini-pacs", "console", "--port", str(port))
    console.wait_for_port(port, 60)
    complaints: list[str] = []
    with chromium() as browser, browser.new_page(viewport={"width": 1280, "height": 800}) as page:
        page.set_default_timeout(LONG_MS)
        expect.set_options(timeout=LONG_MS)
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"http://127.0.0.1:{port}/login")
        page.fill("#f-name", "anna")
        page.fill("#f-password", PASSWORD)
        page.click("main button[type=submit]")
        expect(page.locator("#pulse")).to_contain_text("Live")
        yield page
    assert complaints == []


def test_the_overview_is_live_without_a_reload(page: Page, edge: EdgeSetup) -> None:
    """A pause shows on the picture; what was opened or chosen stays; times have UTC on hover."""
    expect(page.locator(".picture-wide")).to_contain_text("ORTHANC")
    page.evaluate("document.body.dataset.witness = 'not reloaded'")
    with edge.database.transaction() as session:
        assert pauses.pause(session, "ORTHANC", by="otto@console")
    expect(page.locator(".picture-wide .box-wait", has_text="ORTHANC")).to_contain_text("paused")
    assert page.evaluate("document.body.dataset.witness") == "not reloaded"
    shown = page.locator(".flow time").first
    expect(shown).to_have_attribute("title", re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$"))
    expect(shown).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))
    expect(page.locator("[data-chart=throughput] canvas")).to_be_visible()


def test_dialogs_themes_and_phones(page: Page) -> None:
    """An action asks in a dialog that Escape closes; the theme stays; a phone scrolls in one direction."""
    page.click("nav >> text=Accounts")
    page.fill("#f-name", "berta")
    page.click("text=Make an account >> nth=-1")
    dialog = page.locator("#dialog")
    expect(dialog).to_contain_text("Make the account berta, viewer?")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    for theme in ("dark", "light"):
        page.click("[data-theme-switch]")
        expect(page.locator("html")).to_have_attribute("data-theme", theme)
    page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/", "/accounts"):
        page.goto(page.url.partition("/accounts")[0].rstrip("/") + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
