"""What people do in the console, in Chromium against a running lab: each action with its effect.

The pages are watched as those of test_console_pages.py. Each test sends its own instances and ends what it
began, so the order does not matter.
"""

import re

import pytest
from playwright.sync_api import expect
from support.console_client import PASSWORD, account
from support.console_lab import ADMIN, OPERATOR, ConsoleLab, first_link
from support.console_pages import confirm, said
from support.console_rows import MANY, make_many_dead
from support.synthetic_instances import new_uid, study_of
from support.waiting import wait_until

from gateway.database.tables.console_users import Role

pytestmark = pytest.mark.timeout(300)


# ---- accounts -----------------------------------------------------------------------------------------


def test_the_first_link_counts_once(console: ConsoleLab) -> None:
    """It has made the first account; opened again it says what else makes one."""
    assert console.value("SELECT role::text FROM console_users WHERE name = %(n)s", n=ADMIN) == "admin"
    with console.looking(None, expected=["404"]) as page:
        page.goto(first_link(console))
        expect(page.get_by_text("This link works once")).to_be_visible()


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


# ---- deliveries, destinations, messages, faults ----------------------------------------------------


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
