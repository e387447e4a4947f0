"""The pages of the console, in Chromium against a running lab: roles, live, keyboard, hostile texts.

Each page is watched: an error of a script, a failed request or a violation of its policy fails the test. Each
test sends its own instances and ends what it began, so the order does not matter.
"""

import pytest
from conftest import OWNER
from playwright.sync_api import Route, expect
from support.accessibility import too_wide, violations
from support.console_client import PASSWORD, account
from support.console_lab import OPERATOR, ROLES, VIEWER, ConsoleLab
from support.console_pages import FOR_ADMINS, SCREENS, pages_of, said, tab_to
from support.console_rows import HOSTILE, delete_hostile, insert_hostile
from support.synthetic_instances import Instance, study_of
from support.waiting import wait_until

from console.routes import routes
from gateway.database.tables.console_users import Role

pytestmark = pytest.mark.timeout(300)

OPEN = ("/login", "/logout", "/studies/search")
"""Paths that every account may post to."""


@pytest.mark.parametrize("name", ROLES)
def test_each_role_sees_its_screens_and_its_buttons(
    console: ConsoleLab, delivered: list[Instance], name: str
) -> None:
    """A viewer sees no button that changes something; who may not open a screen is told which role may."""
    role = ROLES[name]
    with console.looking(name, role, expected=["403"]) as page:
        for path in pages_of(console, delivered):
            answer = page.goto(path)
            may = role is Role.ADMIN or path not in FOR_ADMINS
            assert answer is not None
            assert answer.status == (200 if may else 403), path
            assert page.locator("main h1").count() == 1, path
            if role is Role.VIEWER and path != "/account":
                posting = page.locator("main form[method=post]:not([action='/studies/search'])")
                assert posting.count() == 0, path


def test_what_a_role_may_not_do_is_refused_by_the_server(console: ConsoleLab) -> None:
    """By POST with a valid token: 403 for a viewer everywhere, for an operator at faults and accounts."""
    paths = [
        route.path  # type: ignore[attr-defined]
        for route in routes()
        if "POST" in (getattr(route, "methods", None) or ())
    ]
    acting = [path for path in paths if path not in OPEN and not path.startswith(("/first/", "/account/"))]
    assert len(acting) > 12
    for name in (VIEWER, OPERATOR):
        role = ROLES[name]
        with console.context(name, role) as context:
            token = console.session(name, role)
            for path in acting:
                if role is Role.VIEWER or path.startswith(FOR_ADMINS):
                    assert console.post(context, path, token, confirmed="yes") == 403, path
    assert console.acted("retry", VIEWER) == []


def test_a_study_that_is_sent_appears_without_a_reload(console: ConsoleLab) -> None:
    """On Studies; its page shows the delivery as it happens."""
    with console.looking(VIEWER, Role.VIEWER) as page:
        page.goto("/studies")
        page.evaluate("window.isTheSame = true")
        [sent] = study_of(1)
        console.send([sent])
        link = page.locator(f"a[href='/studies/{sent.study_instance_uid}']")
        expect(link).to_be_visible()
        assert page.evaluate("window.isTheSame")
        link.click()
        expect(page.locator(".verdict")).to_contain_text("1 original")
        console.wait_state(sent, "delivered")


def test_a_pacs_that_is_stopped_shows_as_away_and_comes_back(
    console: ConsoleLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the Overview and under Destinations, without a reload."""
    monkeypatch.delenv(OWNER)  # the PACS that is started again belongs to the lab, which outlives this test
    assert console.lab.supervisor is not None
    with console.looking(VIEWER, Role.VIEWER) as overview, console.looking(VIEWER, Role.VIEWER) as page:
        overview.goto("/")
        page.goto("/destinations")
        card = page.locator("#to-ORTHANC .badge").first  # its state; errors of the last day may say "away"
        picture = overview.locator("svg.picture-wide")
        console.lab.supervisor.take_down("pacs")
        try:
            sent = study_of(4)
            console.send(sent)
            expect(card).to_contain_text("away")
            expect(picture).to_contain_text("away")
        finally:
            console.lab.supervisor.bring_up("pacs")
        for one in sent:
            console.wait_state(one, "delivered")
        expect(card).not_to_contain_text("away")
        expect(picture).not_to_contain_text("away")


def test_a_button_works_while_the_page_is_being_renewed(console: ConsoleLab) -> None:
    """The renewal is held up until the dialog is there; it comes afterwards, and closes no dialog."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        if route.request.headers.get("x-live") == "1" and not held:
            held.append(route)
        else:
            route.continue_()

    with console.looking(OPERATOR, Role.OPERATOR) as page:
        page.route("**/destinations", hold)
        with page.expect_request(lambda request: request.headers.get("x-live") == "1"):
            page.goto("/destinations")
        page.locator("#to-ORTHANC").get_by_role("button", name="Pause").click()
        dialog = page.locator("#dialog")
        expect(dialog).to_be_visible()
        with page.expect_response(lambda answer: answer.request.headers.get("x-live") == "1"):
            held[0].continue_()
        expect(dialog.get_by_label("Reason")).to_be_visible()


def test_the_keyboard_alone_signs_in_finds_a_study_and_retries(console: ConsoleLab) -> None:
    """Only Tab, Enter and letters are used; the focus is visible."""
    [one] = console.send_delivered()
    console.lose_at_pacs(one)
    console.make_dead(one)
    account(console.database.dsn, "kim", Role.OPERATOR)
    with console.looking(None) as page:
        page.goto("/login")
        tab_to(page, "#f-name")
        page.keyboard.type("kim")
        tab_to(page, "#f-password")
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        expect(page.locator("#pulse")).to_be_visible()
        tab_to(page, "nav a[href='/studies']")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Studies", exact=True)).to_be_visible()
        tab_to(page, "#word")
        page.keyboard.type(one.study_instance_uid)
        page.keyboard.press("Enter")
        expect(page.locator(".verdict")).to_be_visible()
        page.wait_for_load_state()  # without its scripts a page asks on a page of its own
        tab_to(page, "form[action='/deliveries/retry'] button")
        page.keyboard.press("Enter")
        expect(page.locator("#dialog")).to_be_visible()
        tab_to(page, "#dialog button[type=submit]")
        page.keyboard.press("Enter")
        assert said(page) == "1 delivery retried."
    wait_until(lambda: console.is_at_pacs(one), 60, "the retried one at the PACS")


def test_axe_finds_nothing_on_any_page(console: ConsoleLab, delivered: list[Instance]) -> None:
    """WCAG 2.2 AA, light and dark, on a screen and on a phone; with a dialog open, too."""
    found: list[str] = []
    with console.looking(None) as page:
        page.goto("/login")
        found += [f"/login {one}" for one in violations(page)]
    with console.looking() as page:
        for path in pages_of(console, delivered):
            page.goto(path)
            found += [f"{path} {one}" for one in violations(page)]
            found += [f"{path} is too wide on a phone: {one}" for one in too_wide(page)]
        page.goto("/destinations")
        page.locator("#to-ORTHANC").get_by_role("button", name="Pause").click()
        expect(page.locator("#dialog")).to_be_visible()
        found += [f"dialog {one}" for one in violations(page)]
    assert not found, "\n".join(found)


def test_hostile_texts_are_shown_as_texts(console: ConsoleLab) -> None:
    """Markup, control and direction characters, 10,000 characters: in all that peers and operators fill."""
    [one] = console.send_delivered()
    delivery = console.delivery(one)
    console.make_dead(one, HOSTILE)
    insert_hostile(console)
    try:
        with console.looking() as page:
            for path in (*SCREENS, f"/studies/{one.study_instance_uid}", f"/deliveries/{delivery}"):
                page.goto(path)
                assert page.title() != "run", path
                assert page.locator("main img, main b").count() == 0, path
                text = page.locator("main").inner_text()
                assert not set(text) & {"\u202e", "\u0007"}, path
                assert "y" * 2001 not in text, path
                assert not too_wide(page), path
    finally:
        delete_hostile(console)
