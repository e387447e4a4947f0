"""The console's screen Destinations: what it shows, and each action with its effect in PostgreSQL."""

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from support.console_operator import SignedIn, carried, signed_in
from support.peers import peer
from support.prepared_instances import PreparedInstances

from gateway.database.tables import pauses
from gateway.database.tables.console_users import Role
from gateway.domain.delivery import State
from gateway.domain.outcome import Outcome

HOSTILE = "<script>alert(1)</script>\u202e\x07" + "x" * 10_000
PAUSE, RESUME, ECHO = "/destinations/pause", "/destinations/resume", "/destinations/echo"


@pytest.fixture
def anna(kept: PreparedInstances) -> Iterator[SignedIn]:
    """Yield an operator."""
    with signed_in(kept.configuration, kept.database.dsn) as anna:
        yield anna


def paused(kept: PreparedInstances, ae_title: str = "ORTHANC") -> bool:
    """Tell whether a destination is paused."""
    return bool(kept.value("SELECT paused FROM destinations WHERE ae_title = %(t)s", t=ae_title))


def test_the_page_shows_each_destination_with_its_errors_and_debts(
    kept: PreparedInstances, anna: SignedIn
) -> None:
    """State, last errors in words, results that are owed; texts of others are escaped and isolated."""
    kept.forward(kept.receive(1), State.DEAD, outcome=Outcome.NEVER, status=0xA700, error=HOSTILE)
    kept.rows(
        "UPDATE destinations SET breaker = 'open', reason = %(r)s WHERE ae_title = 'APP01' RETURNING 1",
        r=HOSTILE,
    )
    page = anna.get("/destinations")
    for ae_title in ("ORTHANC", "APP01", "APP05"):
        assert f"<bdi>{ae_title}</bdi>" in page
    assert "0xA700 (Refused: out of resources" in page
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert "x" * 1000 not in page
    assert "away" in page


def test_a_pause_asks_first_and_is_recorded(kept: PreparedInstances, anna: SignedIn) -> None:
    """Nothing is done before the confirmation; then reason and end are in the row, and who did it."""
    kept.receive(1)
    question = anna.post(PAUSE, {"ae_title": "ORTHANC"})
    assert "1 deliveries wait for it" in question.text
    assert not paused(kept)
    said = anna.confirm(PAUSE, question, reason="new disks", lasting="2h")
    assert said == "ORTHANC is paused for 2 h."
    assert paused(kept)
    assert kept.value(
        "SELECT paused_until BETWEEN now() + interval '119 min' AND now() + interval '2 h' FROM destinations"
        " WHERE ae_title = 'ORTHANC' AND paused_by = 'anna@console' AND pause_reason = 'new disks'"
    )
    assert kept.value("SELECT outcome FROM activity WHERE verb = 'pause'") == "paused for 2 h: new disks"
    page = anna.get("/destinations")
    assert "new disks" in page
    assert anna.act(RESUME, {"ae_title": "ORTHANC"}) == "ORTHANC gets its deliveries again."
    assert not paused(kept)
    assert kept.value("SELECT count(*) FROM activity WHERE who = 'anna' AND via = 'console'") == 2


def test_the_second_of_two_operators_sees_the_new_state(kept: PreparedInstances, anna: SignedIn) -> None:
    """A page that is older than the pause of somebody else changes nothing."""
    question = anna.post(PAUSE, {"ae_title": "ORTHANC"})
    with kept.database.transaction() as session:
        pauses.pause(session, "ORTHANC", by="bob@host", lasting=timedelta(hours=1))
    answer = anna.post(PAUSE, {**carried(question), "lasting": "30m"})
    assert answer.status_code == 409
    assert "ORTHANC is paused by bob@host until <time" in answer.text
    assert kept.value("SELECT paused_by FROM destinations WHERE ae_title = 'ORTHANC'") == "bob@host"
    assert kept.value("SELECT count(*) FROM activity") == 0


def test_a_finding_shows_its_times_as_the_rest_of_the_page(kept: PreparedInstances, anna: SignedIn) -> None:
    """In the zone of the viewer, with UTC on hover: since when, and until when, ORTHANC is paused."""
    with kept.database.transaction() as session:
        pauses.pause(session, "ORTHANC", by="bob", lasting=timedelta(hours=1))
    page = anna.get("/")
    assert re.search(
        r"ORTHANC is paused since <time [^>]*>[^<]* UTC</time> \(.*\) by bob, until <time ", page
    )
    assert "\u27e6" not in page


def test_a_wrong_form_changes_nothing(kept: PreparedInstances, anna: SignedIn) -> None:
    """The sentence says what is wrong."""
    confirmed = {"ae_title": "ORTHANC", "confirmed": "yes"}
    for fields, said in (
        ({"ae_title": "NOBODY"}, "not in config.yaml any more"),
        ({}, "not in config.yaml any more"),
        ({**confirmed, "lasting": "soon"}, "is not a time"),
        ({**confirmed, "lasting": "31d"}, "at most 30 days"),
        ({**confirmed, "reason": "x" * 201}, "more than 200 characters"),
    ):
        assert said in anna.said(anna.post(PAUSE, fields))
    assert not kept.value("SELECT count(*) FROM destinations WHERE paused")


def test_resume_of_what_is_open_says_so(kept: PreparedInstances, anna: SignedIn) -> None:
    """Somebody else, or a probe, was faster."""
    del kept
    assert "neither paused nor away any more" in anna.said(anna.post(RESUME, {"ae_title": "ORTHANC"}))


def test_a_viewer_sees_no_buttons_and_may_not_act(kept: PreparedInstances) -> None:
    """The role is checked at the server."""
    with signed_in(kept.configuration, kept.database.dsn, Role.VIEWER) as viewer:
        assert PAUSE not in viewer.get("/destinations")
        for path in (PAUSE, RESUME, ECHO):
            assert viewer.post(path, {"ae_title": "ORTHANC", "confirmed": "yes"}).status_code == 403
    assert not paused(kept)


def test_echo_says_what_the_destination_answers(kept: PreparedInstances, anna: SignedIn) -> None:
    """A peer that listens, and one that does not."""
    with peer(kept.configuration.forwarder.orthanc.port):
        assert "answered C-ECHO within" in anna.said(anna.post(ECHO, {"ae_title": "ORTHANC"}))
    assert "did not answer C-ECHO" in anna.said(anna.post(ECHO, {"ae_title": "ORTHANC"}))
    assert "not in config.yaml any more" in anna.said(anna.post(ECHO, {"ae_title": "127.0.0.1"}))
