"""The console in Chromium, against a running lab: every screen, every action, every role.

Each page is watched: an error of a script, a failed request or a violation of its policy fails the test. Each
test sends its own instances and ends what it began, so the order does not matter.
"""

import re
from collections.abc import Iterator

import pytest
from conftest import OWNER
from playwright.sync_api import Route, expect
from support.accessibility import too_wide, violations
from support.console_client import PASSWORD, account
from support.console_lab import ADMIN, ConsoleLab, console_lab, first_link
from support.console_pages import confirm, said, tab_to
from support.console_rows import HOSTILE, MANY, delete_hostile, insert_hostile, make_many_dead
from support.synthetic_instances import Instance, new_uid, study_of
from support.waiting import wait_until

from console.routes import routes
from gateway.database.tables.console_users import Role

pytestmark = pytest.mark.timeout(300)

OPERATOR, VIEWER = "otto", "vera"
SCREENS = (
    "/",
    "/studies",
    "/deliveries",
    "/destinations",
    "/queue",
    "/refusals",
    "/faults",
    "/activity",
    "/accounts",
)
FOR_ADMINS = ("/faults", "/accounts")
OPEN = ("/login", "/logout", "/studies/search")
"""Paths that every account may post to."""
ROLES = {VIEWER: Role.VIEWER, OPERATOR: Role.OPERATOR, ADMIN: Role.ADMIN}


@pytest.fixture(scope="module")
def console() -> Iterator[ConsoleLab]:
    """Yield one lab for all tests of this file."""
    with console_lab() as console:
        yield console


@pytest.fixture(scope="module")
def delivered(console: ConsoleLab) -> list[Instance]:
    """Return the instances of a study that the PACS has."""
    return console.send_delivered(2)


def pages_of(console: ConsoleLab, delivered: list[Instance]) -> list[str]:
    """Return the path of every page that a signed-in account can open."""
    study, delivery = delivered[0].study_instance_uid, console.delivery(delivered[0])
    return [*SCREENS, f"/studies/{study}", f"/deliveries/{delivery}", "/queue/dead", "/account"]


# ---- who may ------------------------------------------------------------------------------------------


def test_the_first_link_counts_once(console: ConsoleLab) -> None:
    """It has made the first account; opened again it says what else makes one."""
    assert console.value("SELECT role::text FROM console_users WHERE name = %(n)s", n=ADMIN) == "admin"
    with console.looking(None, expected=["404"]) as page:
        page.goto(first_link(console))
        expect(page.get_by_text("This link counts once")).to_be_visible()


def test_somebody_signs_in_is_led_to_the_page_and_signs_out(console: ConsoleLab) -> None:
    """After signing out neither the page nor the old cookie opens anything."""
    account(console.database.dsn, "sina", Role.OPERATOR)
    # A live region may ask once more while the sign-out is handled: 401 leads its page to the sign-in.
    with console.looking(None, expected=["401"]) as page:
        page.goto("/deliveries?state=dead")
        page.get_by_label("Name").fill("sina")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(f"{console.url}/deliveries?state=dead")
        cookies = page.context.cookies()
        page.get_by_role("button", name="Sign out").click()
        # Where a live region is renewed just then, the address says where to go on.
        expect(page).to_have_url(re.compile(f"^{re.escape(console.url)}/login"))
        page.context.add_cookies([{**one} for one in cookies])  # type: ignore[typeddict-item]
        page.goto("/destinations")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_five_wrong_passwords_lock_an_account(console: ConsoleLab) -> None:
    """The right password then gets the same answer as a wrong one."""
    account(console.database.dsn, "lena", Role.VIEWER)
    with console.looking(None, expected=["401"]) as page:
        page.goto("/login")
        for password in [*["wrong password"] * 5, PASSWORD]:
            page.get_by_label("Name").fill("lena")
            page.get_by_label("Password").fill(password)
            with page.expect_navigation():
                page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("alert")).to_contain_text("Name or password is wrong")
    with console.looking() as page:
        page.goto("/accounts")
        expect(page.get_by_role("row", name=re.compile("^lena"))).to_contain_text("locked")


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


def test_an_admin_makes_an_account_and_removes_it(console: ConsoleLab) -> None:
    """The sessions of the account that is removed end."""
    with console.looking() as page:
        page.goto("/accounts")
        page.get_by_label("Name").fill("mia")
        button = page.get_by_role("button", name="Make an account")
        words = {"Password": PASSWORD, "The_same_password_again": PASSWORD}
        assert "mia can sign in now" in confirm(page, button, "Make the account", **words)
        with console.looking("mia", Role.VIEWER, expected=["401"]) as other:
            other.goto("/")
            row = page.get_by_role("row", name=re.compile("^mia"))
            remove = row.get_by_role("button", name="Remove")
            assert confirm(page, remove, "Remove the account") == "mia was removed."
            expect(other).to_have_url(re.compile("/login"))  # its page notices it
    assert console.acted("remove-account", ADMIN)[0][0] == "mia"


# ---- live ---------------------------------------------------------------------------------------------


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


# ---- actions ------------------------------------------------------------------------------------------


def test_a_dead_delivery_is_retried_and_a_lost_one_is_sent_again(console: ConsoleLab) -> None:
    """Both arrive at the PACS, and the record says who did it."""
    dead, lost = console.send_delivered(2)
    console.lose_at_pacs(dead)
    console.lose_at_pacs(lost)
    console.make_dead(dead)
    with console.looking(OPERATOR, Role.OPERATOR) as page:
        page.goto(f"/deliveries/{console.delivery(dead)}")
        retry = page.get_by_role("button", name="Retry")
        assert confirm(page, retry, "Retry 1 delivery") == "1 delivery retried."
        wait_until(lambda: console.is_at_pacs(dead), 60, "the retried one at the PACS")
        page.goto(f"/deliveries/{console.delivery(lost)}")
        resend = page.get_by_role("button", name="Resend")
        assert confirm(page, resend, "Resend 1 delivery") == "1 delivery sent again."
        wait_until(lambda: console.is_at_pacs(lost), 60, "the resent one at the PACS")
        expect(page.locator("main")).to_contain_text("delivered")
    assert console.acted("retry", OPERATOR)[0][1] == 1
    assert console.acted("resend", OPERATOR)[0][1] == 1


def test_a_pause_holds_deliveries_back_until_it_is_ended(console: ConsoleLab) -> None:
    """With its reason; what waits meanwhile can be cancelled, and retried afterwards."""
    reason = "Upgrade <b>until noon</b>"
    with console.looking(OPERATOR, Role.OPERATOR) as page:
        page.goto("/destinations")
        card = page.locator("#to-ORTHANC")
        said_of = confirm(
            page, card.get_by_role("button", name="Pause"), "Pause", Reason=reason, How_long="1h"
        )
        assert said_of.startswith("ORTHANC is paused for")
        try:
            expect(card).to_contain_text(reason)
            kept, gone = study_of(2)
            console.send([kept, gone])
            console.wait_state(gone, "pending")
            page.goto(f"/deliveries/{console.delivery(gone)}")
            cancel = page.get_by_role("button", name="Cancel")
            assert confirm(page, cancel, "Cancel 1 delivery") == "1 delivery cancelled."
            assert (console.state(gone), console.state(kept)) == ("cancelled", "pending")
        finally:
            page.goto("/destinations")
            resumed = confirm(page, card.get_by_role("button", name="Resume"), "Resume")
        assert resumed == "ORTHANC gets its deliveries again."
        wait_until(lambda: console.is_at_pacs(kept), 60, "what was held back at the PACS")
        assert not console.is_at_pacs(gone)
        page.goto(f"/studies/{gone.study_instance_uid}")
        retry = page.get_by_role("button", name="Retry")
        assert confirm(page, retry, "Retry 1 delivery") == "1 delivery retried."
        wait_until(lambda: console.is_at_pacs(gone), 60, "the retried one at the PACS")
    assert [len(console.acted(verb, OPERATOR)) >= 1 for verb in ("pause", "resume", "cancel")] == [True] * 3


def test_a_c_echo_says_how_the_peer_answered(console: ConsoleLab) -> None:
    """Without a question: it changes nothing."""
    with console.looking(OPERATOR, Role.OPERATOR) as page:
        page.goto("/destinations")
        page.locator("#to-APP01").get_by_role("button", name="C-ECHO").click()
        assert "answered C-ECHO within" in said(page)


def test_two_operators_and_an_old_page_change_a_row_once(console: ConsoleLab) -> None:
    """Whoever comes second sees the new state instead; nothing is done twice."""
    [one] = console.send_delivered()
    console.make_dead(one)
    with console.looking(OPERATOR, Role.OPERATOR) as first, console.looking(ADMIN) as second:
        for page in (first, second):
            page.goto(f"/deliveries/{console.delivery(one)}")
            page.get_by_role("button", name="Retry").click()
            expect(page.locator("#dialog")).to_be_visible()
        first.locator("#dialog").get_by_role("button", name="Retry 1 delivery").click()
        assert said(first) == "1 delivery retried."
        console.wait_state(one, "delivered")
        second.locator("#dialog").get_by_role("button", name="Retry 1 delivery").click()
        assert "Nothing was done" in said(second)


def test_all_that_match_are_changed_in_the_background_with_progress(console: ConsoleLab) -> None:
    """The count is shown first; the bar ends at it, PostgreSQL and the record agree."""
    marker = f"case {new_uid()}"
    [one] = console.send_delivered()
    make_many_dead(console, one, marker)
    group = "a[href*='reason=']"
    with console.looking(OPERATOR, Role.OPERATOR) as page:
        page.goto("/deliveries")
        page.get_by_role("row", name=re.compile(re.escape(marker))).locator(group).first.click()
        all_of = page.locator(".card-head", has_text="All that match").get_by_role("button", name="Cancel")
        assert f"{MANY} deliveries" in confirm(page, all_of, f"Cancel {MANY} deliveries")
        expect(page.locator(".long-action").first).to_contain_text(f"{MANY} of {MANY}")
    left = "SELECT count(*) FROM deliveries WHERE last_error = %(m)s AND state = %(s)s"
    assert console.value(left, m=marker, s="dead") == 0
    assert console.value(left, m=marker, s="cancelled") == MANY
    assert console.acted("cancel", OPERATOR)[0][1] == MANY


def test_dead_messages_run_again_or_are_deleted(console: ConsoleLab) -> None:
    """One is ticked and deleted; one runs again, and dies again, because no actor has its name."""
    first, second = f"gone_{new_uid()}".replace(".", "_"), f"again_{new_uid()}".replace(".", "_")
    for name in (first, second):
        console.run("SELECT dramatiq.send('sweep', %(n)s, '[]')", n=name)
    state = "SELECT state::text, mtime FROM dramatiq.queue WHERE message->>'actor_name' = %(n)s"
    for name in (first, second):
        wait_until(lambda name=name: console.rows(state, n=name)[0][0] == "rejected", 60, "dead messages")  # type: ignore[misc]
    died = console.rows(state, n=second)[0][1]
    with console.looking(OPERATOR, Role.OPERATOR) as page:
        page.goto("/queue")
        page.get_by_role("row", name=re.compile(first)).get_by_role("checkbox").check()
        delete = page.get_by_role("button", name="Delete the chosen ones")
        assert confirm(page, delete, "Delete") == "1 message is deleted."
        assert console.rows(state, n=first) == []
        page.get_by_role("row", name=re.compile(second)).get_by_role("checkbox").check()
        again = page.get_by_role("button", name="Run the chosen ones again")
        assert confirm(page, again, "Run again") == "1 message is queued again."
        wait_until(lambda: console.rows(state, n=second)[0][1] > died, 60, "it to run again")
    assert console.acted("discard", OPERATOR)
    assert console.acted("requeue", OPERATOR)


def test_a_fault_is_injected_seen_and_cleared(console: ConsoleLab) -> None:
    """Connections to the PACS are refused while it is active; afterwards the image arrives."""
    with console.looking() as page:
        page.goto("/faults")
        row = page.locator("form", has=page.locator("input[value=pacs_down]"))
        try:
            assert "pacs_down is injected" in confirm(
                page, row.get_by_role("button", name="Inject"), "Inject"
            )
            assert console.value("SELECT count(*) FROM faults WHERE name = 'pacs_down'") == 1
            [held] = study_of(1)
            console.send([held])
            page.goto("/")
            expect(page.locator("svg.picture-wide")).to_contain_text("away")
        finally:
            page.goto("/faults")
            page.get_by_role("button", name="Clear all").click()
            assert "Cleared: pacs_down" in said(page)
        console.wait_state(held, "delivered")
    assert console.acted("inject-fault", ADMIN)
    assert console.acted("clear-faults", ADMIN)


# ---- everybody ----------------------------------------------------------------------------------------


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
