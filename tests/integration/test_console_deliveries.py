"""The screen Deliveries: filters, groups, and retry, resend and cancel for one and for all that match."""

import html
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import MakeEdge
from support.console_client import Browser, account, browsing, console_of
from support.forwarding import Forwarding, forwarding
from support.peers import Peer
from support.prepared_instances import STUDY, PreparedInstances
from support.synthetic_instances import Instance
from support.units import series_of, units_of, whole
from support.versions import digests
from support.waiting import wait_until

from gateway.database.tables.console_users import Role
from gateway.domain.delivery import State
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route
from gateway.forward.deliver import forward_to_pacs

FULL = "0xA700 out of resources"


@pytest.fixture
def browser(kept: PreparedInstances, database_url: str) -> Iterator[Browser]:
    """Yield a browser in which an operator has signed in."""
    account(database_url, "olga", Role.OPERATOR)
    with browsing(console_of(kept.configuration, database_url)) as found:
        found.sign_in("olga")
        found.get("/accounts")  # any page with a CSRF token
        yield found


def dead(kept: PreparedInstances, *numbers: int, error: str = FULL) -> list[int]:
    """Receive instances that the PACS refuses for good; return the deliveries."""
    return [
        kept.forward(kept.receive(number), State.DEAD, outcome=Outcome.REFUSED, status=0xA700, error=error)
        for number in numbers
    ]


def states(kept: PreparedInstances, route: Route = Route.PACS) -> dict[str, int]:
    """Return how many deliveries of a route are in each state."""
    return dict(
        kept.rows(
            "SELECT state::text, count(*)::int FROM deliveries WHERE route = %(route)s::route GROUP BY 1",
            route=route.value,
        )
    )


def activity(kept: PreparedInstances) -> list[tuple[Any, ...]]:
    """Return what operators did."""
    return kept.rows("SELECT who, via, verb, target, count FROM activity ORDER BY id")


def listed(page: str) -> list[int]:
    """Return the ids of the deliveries that a page lists."""
    return [int(one) for one in re.findall(r'<tr[^>]* id="delivery-(\d+)"', page)]


def title(page: str) -> str:
    """Return the question of a page that asks."""
    found = re.search(r'<h1 class="confirm-title">(.*?)</h1>', page)
    assert found, page
    return html.unescape(found[1])


def test_groups_lead_to_their_deliveries(kept: PreparedInstances, browser: Browser) -> None:
    """A group counts deliveries to one target in one state for one reason; its link shows exactly these."""
    ids = dead(kept, 1, 2, 3)
    dead(kept, 4, error="association aborted")
    page = browser.get("/deliveries").text
    assert FULL in page
    assert "0xA700 Refused: out of resources" in page
    [path] = [
        one.replace("&amp;", "&")
        for one in re.findall(r'<a href="(/deliveries\?state=dead[^"]*)">3</a>', page)
    ]
    assert FULL not in path  # a peer wrote it
    assert listed(browser.get(path).text) == sorted(ids, reverse=True)


def test_filters_select_and_nonsense_selects_all(kept: PreparedInstances, browser: Browser) -> None:
    """By state, target, worker and study."""
    ids = dead(kept, 1, 2)
    everything = listed(browser.get("/deliveries").text)
    assert len(everything) == 4
    [[sent]] = kept.rows(
        "UPDATE deliveries SET destination = 'APP02'"
        " WHERE id = (SELECT min(id) FROM deliveries WHERE route = 'workers') RETURNING id"
    )
    for query, wanted in {
        "state=dead": ids,
        "state=dead&target=workers:default": [],
        "target=pacs:ORTHANC": ids,
        "worker=APP02": [sent],
        "worker=APP02&target=workers:default": [sent],
        "worker=APP01": [],
        "worker=ORTHANC": [],
        "worker=%3Cscript%3E0123456789": everything,
        f"study={STUDY}": everything,
        "study=1.9": [],
        "state=x&target=y&reason=%3C&study=z&after=w": everything,
    }.items():
        answer = browser.get(f"/deliveries?{query}")
        assert answer.status_code == 200
        assert sorted(listed(answer.text)) == sorted(wanted), query


def test_one_delivery_is_retried_resent_and_cancelled(kept: PreparedInstances, browser: Browser) -> None:
    """Each is recorded with who did it; nothing is done before it is confirmed."""
    [one] = dead(kept, 1)
    page = browser.get(f"/deliveries/{one}").text
    assert "Attempts" in page
    assert FULL in page
    asked = browser.post("/deliveries/retry", {"delivery": str(one)})
    assert title(asked.text) == "Retry 1 delivery?"
    assert states(kept) == {"dead": 1}
    done = browser.confirm("/deliveries/retry", {"delivery": str(one), "back": f"/deliveries/{one}"})
    assert (done.status_code, done.headers["location"]) == (303, f"/deliveries/{one}")
    assert states(kept) == {"pending": 1}
    browser.confirm("/deliveries/cancel", {"delivery": str(one)})
    assert states(kept) == {"cancelled": 1}
    browser.confirm("/deliveries/resend", {"delivery": str(one)})
    assert states(kept) == {"pending": 1}
    assert [(row[0], row[1], row[2], row[4]) for row in activity(kept)] == [
        ("olga", "console", "retry", 1),
        ("olga", "console", "cancel", 1),
        ("olga", "console", "resend", 1),
    ]


def test_a_stale_page_changes_nothing_and_shows_the_new_state(
    kept: PreparedInstances, browser: Browser
) -> None:
    """The delivery was cancelled by somebody else since the page was made; another died meanwhile."""
    [one] = dead(kept, 1)
    page = browser.get(f"/deliveries/{one}").text
    seen = re.search(r'name="seen" value="([^"]*)"', page)
    assert seen
    kept.run("UPDATE deliveries SET state = 'cancelled' WHERE state = 'dead'")
    stale = {"delivery": str(one), "seen": seen[1], "confirmed": "yes"}
    answer = browser.post("/deliveries/retry", stale)
    assert answer.status_code == 409
    assert "Nothing was done" in answer.text
    assert "1 cancelled" in answer.text
    assert states(kept) == {"cancelled": 1}
    dead(kept, 2, 3)
    asked = browser.post("/deliveries/retry", {"state": "dead"})
    assert title(asked.text) == "Retry 2 deliveries?"
    seen = re.search(r'name="seen" value="([^"]*)"', asked.text)
    until = re.search(r'name="until" value="(\d+)"', asked.text)
    assert seen
    assert until
    kept.run("UPDATE deliveries SET state = 'cancelled' WHERE id = (SELECT max(id) FROM deliveries d"
             " WHERE d.state = 'dead')")  # fmt: skip
    fields = {"state": "dead", "seen": seen[1], "until": until[1], "confirmed": "yes"}
    assert browser.post("/deliveries/retry", fields).status_code == 409
    assert states(kept) == {"cancelled": 2, "dead": 1}


def test_two_operators_at_once_change_a_delivery_once(
    kept: PreparedInstances, browser: Browser, database_url: str
) -> None:
    """In two consoles, at the same moment: one did it, the other is told that nothing was done."""
    [one] = dead(kept, 1)
    account(database_url, "otto", Role.OPERATOR)
    with browsing(console_of(kept.configuration, database_url)) as other:
        other.sign_in("otto")
        asked = [each.post("/deliveries/retry", {"delivery": str(one)}) for each in (browser, other)]
        ready = threading.Barrier(2)

        def press(each: Browser, question: Any) -> str:
            fields = {"delivery": str(one), "confirmed": "yes", **hidden(question.text)}
            ready.wait(60)
            answer = each.post("/deliveries/retry", fields)
            if answer.status_code == 409:
                return "has changed"
            page = each.get(answer.headers["location"]).text
            return "retried" if "1 delivery retried." in page else "nothing"

        with ThreadPoolExecutor() as pool:
            done = list(pool.map(press, (browser, other), asked))
    assert done.count("retried") == 1, done
    assert states(kept) == {"pending": 1}
    assert [row[2:] for row in activity(kept)] == [("retry", f"delivery {one}, state dead", 1)]


def hidden(page: str) -> dict[str, str]:
    """Return what the form of a question carries to compare with."""
    return dict(re.findall(r'name="(seen|until)" value="([^"]*)"', page))


def test_what_comes_after_the_count_is_not_changed(kept: PreparedInstances, browser: Browser) -> None:
    """The question counted one pending delivery; a second one is not cancelled with it."""
    kept.receive(1)
    asked = browser.post("/deliveries/cancel", {"state": "pending", "target": "pacs:ORTHANC"})
    assert title(asked.text) == "Cancel 1 delivery?"
    fields = dict(re.findall(r'name="(seen|until)" value="([^"]*)"', asked.text))
    kept.receive(2)
    browser.post(
        "/deliveries/cancel", {"state": "pending", "target": "pacs:ORTHANC", "confirmed": "yes", **fields}
    )
    assert states(kept) == {"cancelled": 1, "pending": 1}


def test_nothing_to_do_and_nothing_selected_say_so(kept: PreparedInstances, browser: Browser) -> None:
    """No row is changed, and nothing is recorded."""
    kept.forward(kept.receive(1))
    for verb, fields in (
        ("retry", {"state": "dead"}),
        ("retry", {}),
        ("retry", {"state": "delivered"}),
        ("cancel", {"delivery": "999999"}),
        ("cancel", {"delivery": "x"}),
    ):
        answer = browser.post(f"/deliveries/{verb}", fields | {"confirmed": "yes"})
        assert answer.status_code == 303
        assert "Nothing was done" in browser.get("/deliveries").text
    assert states(kept) == {"delivered": 1}
    assert activity(kept) == []


def test_a_viewer_sees_no_button_and_is_refused(
    kept: PreparedInstances, browser: Browser, database_url: str
) -> None:
    """403, and nothing changes."""
    dead(kept, 1)
    account(database_url, "vera", Role.VIEWER)
    browser.post("/logout")
    browser.sign_in("vera")
    browser.get("/deliveries")
    assert "/deliveries/retry" not in browser.get("/deliveries?state=dead").text
    for verb in ("retry", "resend", "cancel"):
        assert browser.post(f"/deliveries/{verb}", {"state": "dead", "confirmed": "yes"}).status_code == 403
    assert states(kept) == {"dead": 1}


def test_all_that_match_run_in_the_background_with_their_progress(
    kept: PreparedInstances, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slice by slice: each delivery once, in one record, with the figure on the page."""
    monkeypatch.setattr("console.pages.delivery_actions.SLICE", 2)
    dead(kept, *range(1, 8))
    asked = browser.post("/deliveries/retry", {"state": "dead"})
    assert title(asked.text) == "Retry 7 deliveries?"
    assert "in the background" in asked.text
    answer = browser.confirm("/deliveries/retry", {"state": "dead"})
    assert answer.headers["location"] == "/deliveries?state=dead"
    wait_until(lambda: activity(kept), 20, "the action to end")
    assert states(kept) == {"pending": 7}
    assert activity(kept) == [("olga", "console", "retry", "dead", 7)]
    assert kept.rows("SELECT state, done, total FROM console_actions") == [("done", 7, 7)]
    assert "7 of 7" in browser.get("/deliveries").text


def test_resend_in_the_background_sends_each_once(
    kept: PreparedInstances, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is delivered again while the action runs is not sent a second time."""
    monkeypatch.setattr("console.pages.delivery_actions.SLICE", 2)
    for number in range(1, 6):
        kept.forward(kept.receive(number))
    kept.run("DELETE FROM dramatiq.queue")
    browser.confirm("/deliveries/resend", {"state": "delivered", "target": "pacs:ORTHANC"})
    done = wait_until(
        lambda: kept.rows("SELECT done FROM console_actions WHERE state = 'done'"), 20, "its end"
    )
    assert done == [(5,)]
    messages = kept.rows(
        "SELECT count(*), count(DISTINCT delivery_id) FROM dramatiq.queue WHERE queue_name = 'pacs'"
    )
    assert messages == [(5, 5)]
    assert states(kept) == {"pending": 5}


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield an edge whose actors the test runs itself."""
    with forwarding(make_edge()) as core:
        yield core


def test_a_resent_instance_comes_to_the_pacs_again(core: Forwarding, pacs: Peer, database_url: str) -> None:
    """The same bytes, once more, and its file is in the folder of what was sent."""
    instance = Instance()
    stored, _ = core.receive(instance)
    delivery = core.edge.delivery(instance)["id"]
    assert forward_to_pacs(core.context, delivery) is Outcome.DELIVERED
    account(database_url, "olga", Role.OPERATOR)
    with browsing(console_of(core.edge.configuration, database_url)) as browser:
        browser.sign_in("olga")
        browser.get("/deliveries")
        asked = browser.post("/deliveries/resend", {"study": instance.study_instance_uid})
        assert title(asked.text) == "Resend 1 delivery?"
        browser.confirm("/deliveries/resend", {"study": instance.study_instance_uid})
    assert core.edge.delivery(instance)["state"] == "pending"
    assert forward_to_pacs(core.context, delivery) is Outcome.DELIVERED
    assert digests(pacs) == [instance.digest, instance.digest]
    assert stored.file_name in str(core.edge.files())


def test_a_unit_is_completed_and_sent(make_edge: MakeEdge, database_url: str) -> None:
    """The study page shows that it waits, the button sends it; a second press says that it was sent."""
    with units_of(whole(make_edge)) as units:
        series = series_of(3)
        study = series[0].study_instance_uid
        units.receive(*series)
        account(database_url, "olga", Role.OPERATOR)
        with browsing(console_of(units.edge.configuration, database_url)) as browser:
            browser.sign_in("olga")
            page = browser.get(f"/studies/{study}").text
            assert "collecting" in page
            asked = browser.post("/studies/complete", {"study": study})
            assert "3 instances that are here" in title(asked.text)
            assert browser.confirm("/studies/complete", {"study": study}).status_code == 303
            assert units.edge.one("SELECT completed_by FROM units") == "olga@console"
            assert units.run() is Outcome.DELIVERED
            browser.post("/studies/complete", {"study": study, "confirmed": "yes"})
            assert "Nothing was done" in browser.get("/studies").text
            assert "asked, with its series" in browser.get(f"/studies/{study}").text
