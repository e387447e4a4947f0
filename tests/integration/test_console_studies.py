"""The screens Studies and Study: what they show, filters, search, and what a typed word leaves behind."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Reconfigure
from support.console_client import Browser, account, browsing, console_of
from support.prepared_instances import STUDY, PreparedInstances

from gateway import log
from gateway.database.queries import Query
from gateway.database.tables import search_hashes
from gateway.database.tables.console_users import Role
from gateway.database.tables.search_hashes import Hashed
from gateway.domain.delivery import State
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route
from gateway.domain.search_hash import SearchField, hash_of

HOSTILE = "<script>alert(1)</script>\u202e\x1b[2J" + "&\"'" + "x" * 10_000
NUMBER = "PID-4711-Meier"


@pytest.fixture
def browser(kept: PreparedInstances, database_url: str) -> Iterator[Browser]:
    """Yield a browser in which an operator has signed in."""
    account(database_url, "olga", Role.OPERATOR)
    with browsing(console_of(kept.configuration, database_url)) as found:
        found.sign_in("olga")
        found.get("/accounts")  # any page with a CSRF token
        yield found


def studies_on(page: str) -> list[str]:
    """Return the UIDs of the studies that a page lists, in their order."""
    return re.findall(r'<tr[^>]* id="study-([0-9.]+)"', page)


# ---- Studies -------------------------------------------------------------------------------------------


def test_studies_are_listed_newest_first_with_how_far_they_have_come(
    kept: PreparedInstances, browser: Browser
) -> None:
    """A bar for each archive and application; the words say what the colours say."""
    for number, study in enumerate(("1.2.1", "1.2.2"), 1):
        kept.forward(kept.receive(number, study=study))
    kept.forward(kept.receive(3, study="1.2.2"), State.DEAD, outcome=Outcome.NEVER, status=0x0122, error="no")
    page = browser.get("/studies").text
    assert studies_on(page) == ["1.2.2", "1.2.1"]
    assert 'aria-label="1 delivered, 1 dead"' in page
    assert 'aria-label="1 delivered"' in page
    assert "asked default" in page
    part = browser.get("/studies", headers={"hx-request": "true"}).text
    assert studies_on(part) == ["1.2.2", "1.2.1"]
    assert "<html" not in part


def test_filters_select_by_state_sender_and_time(kept: PreparedInstances, browser: Browser) -> None:
    """A filter that makes no sense selects all."""
    kept.receive(1, study="1.2.1", sender="CT1")
    dead = kept.receive(2, study="1.2.2", sender="MR1")
    kept.forward(dead, State.DEAD, outcome=Outcome.NEVER, status=0x0122, error="no")
    kept.run("UPDATE instances SET received_at = '2026-01-05 12:00:00+00' WHERE study_instance_uid = '1.2.1'")
    shown = {
        "state=dead": ["1.2.2"],
        "state=cancelled": [],
        "sender=CT1": ["1.2.1"],
        "period=1h": ["1.2.2"],
        "until=2026-01-05T13:00:00": ["1.2.1"],
        "from=2026-01-05T11:30:00&until=2026-01-05T11:40:00": [],
        "from=2026-01-05T12:30:00&until=2026-01-05T13:30:00&zone=-60": ["1.2.1"],
        "state=x&period=y&from=z&zone=9e9&sender=%0A&after=/": ["1.2.2", "1.2.1"],
    }
    for query, studies in shown.items():
        answer = browser.get(f"/studies?{query}")
        assert answer.status_code == 200
        assert studies_on(answer.text) == studies, query


def test_pages_lead_to_every_study(
    kept: PreparedInstances, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link to the next page can be kept and opened again."""
    monkeypatch.setattr("console.views.studies.PAGE", 2)
    for number in range(5):
        kept.receive(number, study=f"1.2.{number}")
    found: list[str] = []
    path: str | None = "/studies"
    while path:
        page = browser.get(path).text
        found += studies_on(page)
        link = re.search(r'href="([^"]+)" rel="next"', page)
        path = link[1].replace("&amp;", "&") if link else None
    assert found == ["1.2.4", "1.2.3", "1.2.2", "1.2.1", "1.2.0"]


# ---- the search ----------------------------------------------------------------------------------------


def test_a_uid_leads_to_its_study_and_a_known_title_to_its_studies(
    kept: PreparedInstances, browser: Browser
) -> None:
    """Also the UID of an instance or a series; an unknown UID leads to a page that says what to do."""
    kept.receive(1)
    title = kept.configuration.edge.calling_ae_titles[0]
    for word, path in {
        STUDY: f"/studies/{STUDY}",
        f" {STUDY}.1 ": f"/studies/{STUDY}",
        f"{STUDY}.0": f"/studies/{STUDY}",
        "1.9.9": "/studies/1.9.9",
        title: f"/studies?sender={title}",
        "": "/studies",
    }.items():
        answer = browser.post("/studies/search", {"word": word})
        assert (answer.status_code, answer.headers["location"]) == (303, path)


def test_a_number_is_found_by_its_hash_and_written_nowhere(
    kept: PreparedInstances, reconfigure: Reconfigure, database_url: str, tmp_path: Path
) -> None:
    """Not into the answer, an address, a row, or the log. The record says only that somebody searched."""
    kept.receive(1)
    key = tmp_path / "search.key"
    key.write_bytes(b"k" * 32)
    configuration = reconfigure({"edge": {"search_key": str(key)}})
    log.configure(configuration.edge.log_path, "console")
    with kept.database.transaction() as session:
        row = Hashed(hash_of(b"k" * 32, SearchField.PATIENT_ID, NUMBER), STUDY, f"{STUDY}.0")
        search_hashes.add(session, [row])
    account(database_url, "vera", Role.VIEWER)
    with browsing(console_of(configuration, database_url)) as browser:
        browser.sign_in("vera")
        browser.get("/studies")
        found = browser.post("/studies/search", {"word": NUMBER})
        missed = browser.post("/studies/search", {"word": "PID-0"})
    assert (found.status_code, studies_on(found.text)) == (200, [STUDY])
    assert studies_on(missed.text) == []
    assert found.headers["cache-control"].startswith("no-store")
    written = found.text + str(found.url) + json.dumps(dict(found.headers))
    written += configuration.edge.log_path.read_text() if configuration.edge.log_path.exists() else ""
    tables = kept.rows("SELECT format('%%I.%%I', schemaname, tablename) FROM pg_tables"
                       " WHERE schemaname IN ('public', 'dramatiq')")  # fmt: skip
    for (table,) in tables:
        written += str(kept.rows(f"SELECT * FROM {table}"))  # noqa: S608  names from the catalogue
    assert NUMBER not in written
    assert ("search", "1 studies found", "vera") in kept.rows("SELECT verb, outcome, who FROM activity")


def test_a_number_without_a_key_is_not_searched_and_not_repeated(browser: Browser) -> None:
    """The page says what would find it."""
    answer = browser.post("/studies/search", {"word": NUMBER})
    assert (answer.status_code, answer.headers["location"]) == (303, "/studies")
    page = browser.get("/studies").text
    assert "edge.search_key" in page
    assert NUMBER not in page


# ---- Study ---------------------------------------------------------------------------------------------


def test_a_study_begins_with_the_verdict_and_shows_each_step(
    kept: PreparedInstances, browser: Browser
) -> None:
    """The picture has a row for each instance; the table has every step, with its error in words."""
    kept.forward(kept.receive(1))
    second = kept.receive(2)
    kept.forward(second, State.DEAD, outcome=Outcome.REFUSED, status=0xA700, error="gave up: disk is full")
    page = browser.get(f"/studies/{STUDY}").text
    assert "1 of 2 in the PACS" in page
    assert page.index("1 of 2 in the PACS") < page.index('<svg class="track"')
    assert len(re.findall('<svg class="track"', page)) == 2
    assert "gave up: disk is full" in page
    assert "0xA700 Refused: out of resources" in page
    assert "The edge gave up. It is not at this target" in page
    assert "style=" not in page
    assert 'action="/deliveries/retry"' in page


def test_a_study_with_many_instances_is_drawn_by_series_and_leads_to_each(
    kept: PreparedInstances, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A series has its instances, in pages."""
    monkeypatch.setattr("console.views.study.PAGE", 2)
    for number in range(1, 6):
        kept.forward(kept.receive(number))
    claim = kept.claim_for_worker(kept.delivery(kept.receive(6), Route.WORKERS))
    kept.settle(claim, Route.WORKERS, State.DELIVERED)
    kept.result(7, 6, worker=claim.destination)
    page = browser.get(f"/studies/{STUDY}").text
    assert len(re.findall('<svg class="track"', page)) == 2  # originals, and results
    assert "ORTHANC 5 of 6" in page
    assert "results 1 of 1" in page
    shown: list[str] = []
    path: str | None = f"/studies/{STUDY}?series={STUDY}.0"
    while path:
        part = browser.get(path).text
        shown += re.findall(r'<li id="instance-(\d+)"', part)
        link = re.search(r'href="([^"]+)" rel="next"', part)
        path = link[1].replace("&amp;", "&") if link else None
    assert len(shown) == len(set(shown)) == 7


def test_versions_of_a_uid_are_shown_with_their_numbers(kept: PreparedInstances, browser: Browser) -> None:
    """Both contents, with who sent them."""
    kept.receive(1)
    kept.run("UPDATE instances SET sha256 = sha256('x'), file_name = 'other.dcm'")
    kept.run("UPDATE instances SET conflict = false")
    kept.receive(1)
    page = browser.get(f"/studies/{STUDY}").text
    assert "1 of 2" in page
    assert "2 of 2" in page
    assert "UIDs that came with other bytes" in page


def test_a_zoom_shows_a_part_of_the_time(kept: PreparedInstances, browser: Browser) -> None:
    """Any text in the address gives a page."""
    kept.forward(kept.receive(1))
    for zoom in ("0-0.5", "100-200", "5-1", "-", "x", "0-999999999", "9999999999-1"):
        assert browser.get(f"/studies/{STUDY}?zoom={zoom}").status_code == 200
    marks = len(re.findall("<title>PACS", browser.get(f"/studies/{STUDY}").text))
    assert marks == 1


def test_an_unknown_study_says_what_to_do(browser: Browser) -> None:
    """404, with where to look; what is no UID, too."""
    for uid in ("1.2.9999", "9" * 128):
        answer = browser.get(f"/studies/{uid}")
        assert answer.status_code == 404
        assert "neither accepted nor refused" in answer.text
        assert "Refusals" in answer.text
    for word in ("x", "%3Cscript%3E", "9" * 129, "1.2%00"):
        assert browser.get(f"/studies/{word}").status_code == 404


def test_the_viewer_gets_the_uid_where_it_is_configured(
    kept: PreparedInstances, reconfigure: Reconfigure, database_url: str
) -> None:
    """`{study}` in console.viewer_url becomes the UID."""
    kept.receive(1)
    configuration = reconfigure({"console": {"viewer_url": "http://viewer:3000/v?S={study}"}})
    account(database_url, "vera", Role.VIEWER)
    with browsing(console_of(configuration, database_url)) as browser:
        browser.sign_in("vera")
        page = browser.get(f"/studies/{STUDY}").text
    assert f'href="http://viewer:3000/v?S={STUDY}"' in page
    assert "/deliveries/retry" not in page  # a viewer changes nothing


def test_hostile_texts_are_shown_escaped_and_shortened(kept: PreparedInstances, browser: Browser) -> None:
    """AE titles, reasons and names of targets, on every page that shows them."""
    instance = kept.receive(1, sender="<b>\u202eAE")
    delivery = kept.forward(instance, State.DEAD, outcome=Outcome.REFUSED, status=0xA700, error="x")
    with kept.database.transaction() as session:
        session.run(
            Query("test", "UPDATE deliveries SET last_error = %(text)s, target = '<i>' || target"),
            text=HOSTILE.replace("\x00", ""),
        )
    for path in ("/studies", f"/studies/{STUDY}", "/deliveries", f"/deliveries/{delivery}"):
        page = browser.get(path).text
        assert "<script>alert" not in page, path
        assert "<b>" not in page, path
        assert "<i>" not in page, path
        assert "\u202e" not in page, path
        assert "\x1b" not in page, path
        assert "x" * 600 not in page, path
    assert "&lt;script&gt;alert" in browser.get("/deliveries").text
