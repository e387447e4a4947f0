"""An operator can end every alarm about messages: by discarding them, or by settling their delivery."""

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest
from support.prepared_instances import PreparedInstances
from support.queue_setup import QueueSetup
from support.waiting import wait_until
from typer.testing import CliRunner, Result

from cli.main import build
from gateway import log
from gateway.config import Configuration
from gateway.database.session import Session
from gateway.database.tables import overview
from gateway.diagnosis.findings import findings


@pytest.fixture(autouse=True)
def _log() -> Iterator[None]:
    """Direct the log to standard error again after the test.

    A command logs to the file of its configuration.
    """
    yield
    log.configure(None, "tests")


def command(*words: str, answer: str | None = None) -> Result:
    """Run one command in this process."""
    return CliRunner().invoke(build(words[0]), words, input=answer)


def said(session: Session) -> list[str]:
    """Return the lines of `mini-pacs status` about messages and deliveries."""
    texts = [finding.text for finding in findings(overview.overview(session), None)]
    return [text for text in texts if "dead" in text or "consumes the queue" in text]


def kill(queue: QueueSetup) -> None:
    """Make every waiting message dead."""
    queue.run("UPDATE dramatiq.queue SET state = 'rejected', reason = 'no such actor' WHERE state = 'queued'")


@pytest.mark.usefixtures("edge_folder")
def test_a_dead_message_without_an_actor_is_discarded(queue: QueueSetup) -> None:
    """It is selected by its id, and the question names the number; other messages stay."""
    first, second = queue.send("no_such_actor"), queue.send("no_such_actor")
    kill(queue)
    waiting = queue.send("noop")
    refused = command("queue", "discard", first, answer="n\n")
    assert "Delete 1 dead messages for good?" in refused.output
    assert (refused.exit_code, queue.count("state = 'rejected'")) == (1, 2)
    assert command("queue", "discard", first, answer="y\n").exit_code == 0
    assert queue.rows("SELECT message_id::text FROM dramatiq.queue WHERE state = 'rejected'") == [(second,)]
    answer = command("queue", "discard", "--all-dead", "--yes", "--json")
    assert json.loads(answer.stdout) == {
        "schema": "mini-pacs/changed-messages/1",
        "discarded": [second],
        "deliveries_still_dead": 0,
    }
    assert queue.rows("SELECT message_id::text FROM dramatiq.queue") == [(waiting,)]
    with queue.database.statement() as session:
        assert said(session) == []


@pytest.mark.usefixtures("edge_folder")
def test_only_dead_messages_are_discarded(queue: QueueSetup) -> None:
    """Refused: a waiting message, an unknown one, no id, two selections, a queue of the edge."""
    waiting = queue.send("noop")
    assert command("queue", "discard", waiting, "--yes").exit_code == 1
    assert command("queue", "discard", str(uuid4()), "--yes").exit_code == 1
    assert command("queue", "discard", "--all-dead", "--yes").exit_code == 1
    for words in (["7"], [], [waiting, "--all-dead"], ["--queue", "pacs"], ["--queue", "q", "--all-dead"]):
        assert command("queue", "discard", *words, "--yes").exit_code == 2
    assert command("queue", "requeue", "7").exit_code == 2
    assert queue.count() == 1


@pytest.mark.usefixtures("edge_folder")
def test_due_messages_that_nobody_consumes_are_shown_and_can_be_discarded(queue: QueueSetup) -> None:
    """In `status` and in `queue`, with the command; messages that are not due are not shown."""
    queue.fill("noop", 3, delay_seconds=-60)
    queue.send("noop", delay_seconds=3600)
    queue.send("noop", delay_seconds=-3600, priority=-1)
    queue.send("noop", delay_seconds=-30)
    queue.run("UPDATE dramatiq.queue SET alone = true WHERE due BETWEEN now() - '35 s'::interval AND now()")
    queue.run("UPDATE dramatiq.queue SET queue_name = 'nobody'")
    queue.send("noop", delay_seconds=3600)
    with queue.database.statement() as session:
        [text] = said(session)
    assert "queue nobody: 5 messages are due, the oldest for 60 min" in text
    assert "`mini-pacs queue discard --queue nobody`" in text
    assert text in command("queue").output.replace("\n", " ")
    assert json.loads(command("queue", "--json").stdout)["unserved"][0]["due"] == 5
    assert "Delete 6 messages of the queue nobody" in command("queue", "discard", "--queue", "nobody").output
    assert command("queue", "discard", "--queue", "nobody", "--yes").exit_code == 0
    with queue.database.statement() as session:
        assert said(session) == []
    assert queue.count() == 1


@pytest.mark.usefixtures("edge_folder")
def test_messages_of_a_consumed_queue_are_not_discarded(queue: QueueSetup) -> None:
    """This holds however long they wait."""
    queue.start(threads=2)
    queue.send("hold", 1, 60)
    queue.send("hold", 2, 60)
    wait_until(lambda: len(queue.ran()) == 2, 10, "both threads to be busy")
    queue.send("noop", delay_seconds=-3600)
    assert command("queue", "discard", "--queue", "q", "--yes").exit_code == 1
    assert queue.count() == 3
    with queue.database.statement() as session:
        assert said(session) == []


@pytest.fixture
def kept(queue: QueueSetup, configuration: Configuration) -> Iterator[PreparedInstances]:
    """Yield the same database with instances."""
    kept = PreparedInstances(queue.dsn, configuration)
    yield kept
    kept.database.close()


@pytest.mark.parametrize("words", [["cancel", "--yes"], ["retry"], ["resend", "--yes"]])
def test_settling_a_dead_delivery_removes_its_dead_message(
    queue: QueueSetup, kept: PreparedInstances, words: list[str]
) -> None:
    """Cancelled, retried or resent: the message is no longer reported."""
    kept.receive(1)
    kill(queue)
    with queue.database.statement() as session:
        assert len(said(session)) == 3  # both routes, and the messages
    assert command("deliveries", words[0], "--state", "dead", *words[1:]).exit_code == 0
    assert queue.count("state = 'rejected'") == 0
    with queue.database.statement() as session:
        assert said(session) == []


def test_requeue_of_a_message_also_revives_its_delivery(queue: QueueSetup, kept: PreparedInstances) -> None:
    """The delivery is not dead any more, and does not delete a waiting message."""
    kept.receive(1)
    kill(queue)
    assert command("queue", "requeue", "--all").exit_code == 0
    assert queue.count("state = 'queued'") == 2
    assert queue.rows("SELECT DISTINCT state::text FROM deliveries") == [("pending",)]


def test_discarding_says_which_deliveries_stay_dead(queue: QueueSetup, kept: PreparedInstances) -> None:
    """Discarding a message does not settle its delivery: the command says how to do that."""
    kept.receive(1)
    kill(queue)
    output = command("queue", "discard", "--all-dead", "--yes").output
    assert "2 message(s) deleted" in output
    assert "2 of their deliveries are dead still" in output
    assert queue.rows("SELECT DISTINCT state::text FROM deliveries") == [("dead",)]
