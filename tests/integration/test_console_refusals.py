"""The console's screens Refusals, Faults, Activity and the own account."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from conftest import Reconfigure
from support.console_operator import SignedIn, signed_in
from support.prepared_instances import PreparedInstances

from console import sign_in
from gateway.database.tables import activity, refusals
from gateway.database.tables.activity import Operator, Via
from gateway.database.tables.console_users import Role
from gateway.database.tables.refusals import RefusalRow
from gateway.domain.refusal import Reason, RefusalKind

INJECT, CLEAR = "/faults/inject", "/faults/clear"
PACS_DOWN = {"name": "pacs_down", "lasting": "5m"}
HOSTILE = '"><script>alert(1)</script>\u202e'


@pytest.fixture
def anna(kept: PreparedInstances) -> Iterator[SignedIn]:
    """Yield an operator."""
    with signed_in(kept.configuration, kept.database.dsn) as anna:
        yield anna


@pytest.fixture
def admin(kept: PreparedInstances, reconfigure: Reconfigure) -> Iterator[SignedIn]:
    """Yield an admin of a console that may inject faults."""
    with signed_in(
        reconfigure({"console": {"allow_faults": True}}), kept.database.dsn, Role.ADMIN, "root"
    ) as admin:
        yield admin


def refuse(kept: PreparedInstances, calling: str, minutes_ago: int = 0) -> None:
    """Add a refusal of an unknown AE title."""
    at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    row = RefusalRow(
        RefusalKind.ASSOCIATION, Reason.CALLING_AE_TITLE, calling, "MINI_EDGE", "10.1.2.3", 3, at, at, None,
        None, None,
    )  # fmt: skip
    with kept.database.transaction() as session:
        refusals.add(session, [row], [])


def test_each_screen_has_a_part_that_is_renewed(kept: PreparedInstances, admin: SignedIn) -> None:
    """The live region gets the part alone, as often as there is a snapshot."""
    del kept
    for path in ("/destinations", "/queue", "/refusals", "/faults", "/activity"):
        for _ in range(2):
            answer = admin.browser.client.get(path, headers={"hx-request": "true", "x-live": "1"})
            assert answer.status_code == 200, answer.text
            assert "<html" not in answer.text


# ---- refusals ----------------------------------------------------------------------------------------


def test_a_refusal_has_the_line_for_config_yaml(kept: PreparedInstances, anna: SignedIn) -> None:
    """The line can be copied; it is escaped, whatever the peer called itself."""
    refuse(kept, "CT9")
    refuse(kept, HOSTILE)
    page = anna.get("/refusals")
    assert 'data-copy="    - CT9@10.1.2.3"' in page
    assert "3 times" in page
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert "CT9" not in anna.get("/refusals?aet=CT8")
    assert "CT9" in anna.get("/refusals?aet=CT9&since=30d")


def test_refusals_are_paged_by_time(kept: PreparedInstances, anna: SignedIn) -> None:
    """Each peer is on one page."""
    names = [f"CT{number:03}" for number in range(60)]
    for number, name in enumerate(names):
        refuse(kept, name, number)
    first = anna.get("/refusals")
    following = first.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    second = anna.get(following)
    assert [name for name in names if f"{name}@" in first] == names[:50]
    assert [name for name in names if f"{name}@" in second] == names[50:]


# ---- faults ------------------------------------------------------------------------------------------


def test_a_fault_is_injected_and_cleared(kept: PreparedInstances, admin: SignedIn) -> None:
    """Nothing is injected before the confirmation; row and record have the admin."""
    question = admin.post(INJECT, PACS_DOWN)
    assert "Inject pacs_down for 5 min?" in question.text
    assert kept.value("SELECT count(*) FROM faults") == 0
    admin.confirm(INJECT, question)
    assert kept.value(
        "SELECT until - injected_at = interval '5 min' FROM faults WHERE injected_by = 'root@console'"
    )
    page = admin.get("/faults")
    assert "connections to the PACS are refused" in page
    assert "Cleared: pacs_down" in admin.said(admin.post(CLEAR, {"name": "pacs_down"}))
    assert kept.value("SELECT count(*) FROM faults") == 0
    verbs = [row[0] for row in kept.rows("SELECT verb FROM activity ORDER BY id")]
    assert verbs == ["inject-fault", "clear-faults"]
    assert "active any more" in admin.said(admin.post(CLEAR, {"name": "pacs_down"}))


def test_a_wrong_fault_is_refused(kept: PreparedInstances, admin: SignedIn) -> None:
    """The sentence says what is wrong."""
    for fields, said in (
        ({"name": "nope"}, "nope"),
        ({"name": "pacs_down", "value": "3"}, "takes no value"),
        ({"name": "random_fail_rate", "value": "nan"}, "above 0"),
        ({"name": "random_fail_rate", "value": "2"}, "at most 1"),
        ({"name": "pacs_down", "stage": "receive"}, "only"),
        ({"name": "pacs_down", "lasting": "8d"}, "at most 7 days"),
    ):
        assert said in admin.said(admin.post(INJECT, {**fields, "confirmed": "yes"}))
    assert kept.value("SELECT count(*) FROM faults") == 0


def test_a_fault_that_somebody_injected_meanwhile_is_shown(kept: PreparedInstances, admin: SignedIn) -> None:
    """The page was older: nothing is replaced without another question."""
    kept.run("INSERT INTO faults (name, injected_by) VALUES ('pacs_down', 'bob')")
    answer = admin.post(INJECT, {**PACS_DOWN, "confirmed": "yes", "seen": "none"})
    assert answer.status_code == 409
    assert "injected by bob" in answer.text
    assert kept.value("SELECT injected_by FROM faults") == "bob"


def test_faults_need_the_switch_and_an_admin(
    kept: PreparedInstances, anna: SignedIn, reconfigure: Reconfigure
) -> None:
    """Neither page nor action without both."""
    assert anna.get("/faults", 404)
    allowed = reconfigure({"console": {"allow_faults": True}})
    with signed_in(allowed, kept.database.dsn, Role.OPERATOR, "bob") as bob:
        assert bob.get("/faults", 403)
        assert bob.post(INJECT, {**PACS_DOWN, "confirmed": "yes"}).status_code == 403
    off = reconfigure({"console": {"allow_faults": False}})
    with signed_in(off, kept.database.dsn, Role.ADMIN, "root") as root:
        assert "Faults are off" in root.said(root.post(INJECT, {**PACS_DOWN, "confirmed": "yes"}))
    assert kept.value("SELECT count(*) FROM faults") == 0


# ---- activity ----------------------------------------------------------------------------------------


def test_activity_shows_commands_and_console_and_is_filtered_and_paged(
    kept: PreparedInstances, anna: SignedIn
) -> None:
    """The newest first; the next page goes on where this one ends."""
    with kept.database.transaction() as session:
        for number in range(150):
            operator = Operator("bob", Via.CLI, f"host{number}")
            activity.record(session, operator, "retry", f"study {number}", count=number, outcome="done")
        operator = Operator("<b>eve</b>\u202e", Via.CONSOLE, "10.0.0.9")
        activity.record(session, operator, "pause", HOSTILE, outcome="paused")
    page = anna.get("/activity")
    assert "&lt;b&gt;eve&lt;/b&gt;" in page
    assert "<script>alert" not in page
    assert "host149" in page
    assert "host0<" not in page
    following = page.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    assert "host0<" in anna.get(following)
    assert "host149" not in anna.get("/activity?verb=pause")
    assert "eve&lt;" not in anna.get("/activity?who=bob")
    assert anna.get("/activity?after=99999999999999999999&who=" + "x" * 5000)


# ---- the own account ---------------------------------------------------------------------------------


def test_somebody_changes_the_own_password(kept: PreparedInstances, anna: SignedIn) -> None:
    """The present one is asked for; all sessions end; wrong attempts lock the account."""
    first = "UPDATE console_users SET password_hash = %(h)s RETURNING 1"
    kept.rows(first, h=sign_in.hashed("the-first-password"))
    new = {"password": "another-password", "again": "another-password"}
    said = anna.said(anna.post("/account/password", {**new, "present": "wrong"}))
    assert "present password is wrong" in said
    wrong = {"present": "the-first-password", "password": "another-password", "again": "different"}
    assert "differ" in anna.said(anna.post("/account/password", wrong))
    assert "10 to 1000 characters" in anna.said(
        anna.post(
            "/account/password", {"present": "the-first-password", "password": "short", "again": "short"}
        )
    )
    answer = anna.post("/account/password", {**new, "present": "the-first-password"})
    assert answer.headers["location"] == "/login"
    assert kept.value("SELECT count(*) FROM console_sessions") == 0
    assert sign_in.verified(kept.value("SELECT password_hash FROM console_users"), "another-password")


def test_an_admin_unlocks_an_account(kept: PreparedInstances, admin: SignedIn) -> None:
    """The record has it; an account that is not locked is left alone."""
    kept.run("INSERT INTO console_users (name, role, created_by) VALUES ('eve', 'viewer', 'test')")
    assert "not locked any more" in admin.said(admin.post("/accounts/unlock", {"name": "eve"}))
    kept.run(
        "UPDATE console_users SET failures = 9, locked_until = now() + interval '1 h' WHERE name = 'eve'"
    )
    assert "Unlock" in admin.get("/accounts")
    assert admin.said(admin.post("/accounts/unlock", {"name": "eve"})) == "eve can sign in again."
    assert kept.value("SELECT failures FROM console_users WHERE name = 'eve' AND locked_until IS NULL") == 0
    assert kept.value("SELECT target FROM activity WHERE verb = 'unlock-account'") == "eve"
