"""The console's screen Queue and processes: what it shows, and what becomes of dead messages."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from support.console_operator import SignedIn, signed_in
from support.prepared_instances import PreparedInstances
from support.waiting import wait_until

from gateway.database.session import Session
from gateway.database.tables.activity import Operator, Via
from gateway.database.tables.console_users import Role
from gateway.operate import messages

REQUEUE, DISCARD, UNSERVED = "/queue/requeue", "/queue/discard", "/queue/discard-unserved"
HOSTILE = '<img src=x onerror="1">\u202e' + "y" * 10_000


@pytest.fixture
def anna(kept: PreparedInstances) -> Iterator[SignedIn]:
    """Yield an operator."""
    with signed_in(kept.configuration, kept.database.dsn) as anna:
        yield anna


def die(kept: PreparedInstances, count: int, queue: str = "pacs") -> list[str]:
    """Make dead messages; return their ids, the oldest first."""
    sent = "SELECT dramatiq.send(%(q)s, 'no_such_actor', '[]') FROM generate_series(1, %(n)s)"
    kept.rows(sent, q=queue, n=count)
    dead = "UPDATE dramatiq.queue SET state = 'rejected', reason = %(r)s WHERE state = 'queued' RETURNING 1"
    kept.rows(dead, r=HOSTILE)
    ids = "SELECT message_id::text FROM dramatiq.queue ORDER BY mtime, message_id"
    return [row[0] for row in kept.rows(ids)]


def nothing(_: Session, __: int) -> None:
    """Record nothing."""


def states(kept: PreparedInstances) -> dict[str, int]:
    """Return how many messages are in each state."""
    return dict(kept.rows("SELECT state::text, count(*) FROM dramatiq.queue GROUP BY 1"))


def test_the_page_shows_queues_processes_and_dead_messages(kept: PreparedInstances, anna: SignedIn) -> None:
    """Hostile reasons are escaped and shortened; a process with another configuration is marked."""
    die(kept, 2)
    kept.receive(1)
    kept.run(
        "INSERT INTO processes (id, kind, serves, host, pid, os_user, version, started_at, beat_at,"
        " server_process, configuration_digest) VALUES (gen_random_uuid(), 'actors', 'pacs', 'edge<b>', 7,"
        " 'pacs', '1', now(), now(), 0, 'abc')"
    )
    page = anna.get("/queue")
    assert "edge&lt;b&gt;" in page
    assert "<img src=x" not in page
    assert "\u202e" not in page
    assert "y" * 1000 not in page
    assert "no_such_actor" in page
    for name in ("pacs", "workers"):
        assert f"<bdi>{name}</bdi>" in page


def test_chosen_messages_run_again_or_are_deleted(kept: PreparedInstances, anna: SignedIn) -> None:
    """The others stay dead; the record has the count."""
    first, second, _ = die(kept, 3)
    assert anna.act(REQUEUE, {"message": first}) == "1 message is queued again."
    assert states(kept) == {"queued": 1, "rejected": 2}
    assert anna.act(DISCARD, {"message": second}) == "1 message is deleted."
    assert states(kept) == {"queued": 1, "rejected": 1}
    rows = kept.rows("SELECT verb, count, who FROM activity ORDER BY id")
    assert rows == [("requeue", 1, "anna"), ("discard", 1, "anna")]


def test_what_is_not_dead_any_more_is_left_alone(kept: PreparedInstances, anna: SignedIn) -> None:
    """A page that is too old: the question says how many are left; with none of them it refuses."""
    first, second = die(kept, 2)
    question = anna.post(DISCARD, {"message": f"{first}\n{second}"})
    assert "Delete 2 dead messages" in question.text
    messages.requeue(kept.database, [first], _operator())
    answer = anna.post(DISCARD, {"message": f"{first}\n{second}", "confirmed": "yes", "seen": "2"})
    assert answer.status_code == 409
    assert "1 of 2 are not dead any more" in answer.text
    messages.requeue(kept.database, [second], _operator())
    assert "None of these messages is dead any more" in anna.said(anna.post(DISCARD, {"message": second}))
    assert states(kept) == {"queued": 2}


def test_all_dead_messages_run_again_in_the_background(
    kept: PreparedInstances, anna: SignedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In slices; the page shows the progress, the record has who and how many."""
    monkeypatch.setattr(messages, "SLICE", 2)
    die(kept, 5)
    assert "5 dead messages: it runs in the background" in anna.act(REQUEUE, {"all": "yes"})
    wait_until(lambda: states(kept) == {"queued": 5}, 20, "all messages to be queued again")
    wait_until(lambda: kept.value("SELECT count(*) FROM activity") == 1, 20, "the record")
    assert kept.rows("SELECT verb, count, who, via FROM activity") == [("requeue", 5, "anna", "console")]
    assert "5 of 5" in anna.get("/queue")


def test_all_means_those_that_were_dead_at_the_confirmation(kept: PreparedInstances) -> None:
    """A message that dies again is not run for ever."""
    die(kept, 2)
    until = datetime.now(UTC)
    kept.run(
        "UPDATE dramatiq.queue SET mtime = now() + interval '1 minute'"
        " WHERE ctid = (SELECT max(ctid) FROM dramatiq.queue)"
    )
    count = messages.requeue_slice(kept.database, until, _operator(), nothing)
    assert count == 1
    assert messages.requeue_slice(kept.database, until, _operator(), nothing) == 0


def test_a_queue_without_a_consumer_is_emptied(kept: PreparedInstances, anna: SignedIn) -> None:
    """Not one that the edge itself uses."""
    kept.run("SELECT dramatiq.send('theirs', 'a', '[]', 4, now() - interval '1 hour')")
    assert "no process consumes it" in anna.get("/queue")
    assert "the edge itself uses" in anna.said(anna.post(UNSERVED, {"queue": "pacs"})).lower()
    assert anna.act(UNSERVED, {"queue": "theirs"}) == "1 message is deleted."
    assert states(kept) == {}


def test_dead_messages_are_paged_by_time(kept: PreparedInstances, anna: SignedIn) -> None:
    """Each message is on one page; a position that is none is the first page."""
    ids = die(kept, 120)
    path, seen = "/queue/dead", []
    while path:
        page = anna.get(path)
        seen += [one for one in ids if f"message-{one}" in page]
        following = page.partition('rel="next" href="')[2].partition('"')[0]
        path = following.replace("&amp;", "&")
    assert sorted(seen) == sorted(ids)
    assert "Older ones" in anna.get("/queue/dead?after=2026-99-99/x")


def test_a_form_without_a_message_is_refused(kept: PreparedInstances, anna: SignedIn) -> None:
    """Nothing is done."""
    die(kept, 1)
    for message in ("", " ", "1; DROP TABLE"):
        assert "Nothing was done" in anna.said(anna.post(DISCARD, {"message": message}))
    assert states(kept) == {"rejected": 1}


def test_a_viewer_may_look_only(kept: PreparedInstances) -> None:
    """No checkbox, no button, and the server refuses."""
    [only] = die(kept, 1)
    with signed_in(kept.configuration, kept.database.dsn, Role.VIEWER) as viewer:
        assert "checkbox" not in viewer.get("/queue")
        assert viewer.post(DISCARD, {"message": only, "confirmed": "yes"}).status_code == 403
    assert states(kept) == {"rejected": 1}


def _operator() -> Operator:
    return Operator("bob", Via.CLI, "host")
