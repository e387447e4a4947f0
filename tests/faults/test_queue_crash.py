"""kill -9 of actor processes: their messages run elsewhere; one that kills processes is dead-lettered."""

import signal

import pytest
from support.queue_setup import QueueSetup
from support.waiting import wait_until

from gateway.database.tables import dead_messages, messages


def test_messages_of_a_killed_process_run_elsewhere(queue: QueueSetup) -> None:
    """Other processes see that its lock is gone; their own messages are not affected."""
    victim = queue.start(threads=4)
    for number in range(4):
        queue.send("hold", number, 60)
    wait_until(lambda: queue.count("state = 'consumed'") == 4, 10, "the victim to hold all")
    wait_until(lambda: len(queue.ran()) == 4, 5, "all to have begun")
    queue.start(threads=4)
    victim.kill()
    wait_until(lambda: len(queue.ran()) == 8, 30, "all to begin elsewhere")
    assert queue.count("state = 'consumed' AND deaths = 1") == 4
    assert queue.one("SELECT count(*) FROM dramatiq.consumers") == 1


def test_a_new_process_runs_the_messages_of_dead_ones(queue: QueueSetup) -> None:
    """No process that could see them die is left."""
    processes = [queue.start(threads=2), queue.start(threads=2)]
    for number in range(4):
        queue.send("hold", number, 60)
    wait_until(lambda: len(queue.ran()) == 4, 10, "all to have begun")
    for process in processes:
        process.kill()
    queue.launch(threads=4)
    wait_until(lambda: len(queue.ran()) == 8, 30, "all to begin again")


def test_a_graceful_stop_finishes_running_messages_and_counts_no_death(queue: QueueSetup) -> None:
    """SIGTERM: running actors end, no other begins, and no row of the consumer remains."""
    process = queue.start(threads=2)
    for number in range(6):
        queue.send("hold", number, 1.5)
    wait_until(lambda: len(queue.ran()) == 2, 10, "two to have begun")
    assert process.stop() == 0
    assert len(queue.ran()) == 2
    assert queue.count("state = 'queued' AND deaths = 0") == 4
    assert queue.count() == 4
    assert queue.one("SELECT count(*) FROM dramatiq.consumers") == 0


STOPPING = "SELECT count(*) FROM dramatiq.consumers WHERE stopping_since IS NOT NULL"


def test_a_kill_during_a_graceful_stop_counts_no_death(queue: QueueSetup) -> None:
    """The grace period of the shutdown ends too early, as many times as a message may kill its process."""
    queue.send("hold", 1, 300)
    queue.send("hold", 2, 300)
    for round_ in range(1, messages.POISON_DEATHS + 1):
        process = queue.start(threads=2)
        wait_until(lambda round_=round_: len(queue.ran()) == 2 * round_, 20, "both to have begun")  # type: ignore[misc]
        process.popen.terminate()
        wait_until(
            lambda: queue.one("SELECT count(*) FROM dramatiq.consumers WHERE stopping_since IS NOT NULL"),
            10,
            "the mark",
        )
        process.kill()
    queue.start(threads=2)
    wait_until(lambda: len(queue.ran()) == 2 * (messages.POISON_DEATHS + 1), 20, "both to begin again")
    assert queue.count("state = 'consumed' AND deaths = 0 AND NOT alone") == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_to_stop_counts_no_death(queue: QueueSetup, number: int) -> None:
    """Dramatiq ends at once, before it would have looked whether the first signal came."""
    queue.send("hold", 1, 300)
    process = queue.start(threads=1)
    wait_until(lambda: len(queue.ran()) == 1, 20, "it to have begun")
    process.popen.send_signal(number)
    process.wait_for_line("Stopping worker process")
    process.popen.send_signal(signal.SIGTERM)
    process.wait_for_line("Killing worker process")
    process.wait()
    queue.start(threads=1)
    wait_until(lambda: len(queue.ran()) == 2, 20, "it to begin again")
    assert queue.count("state = 'consumed' AND deaths = 0") == 1


def test_a_message_that_kills_its_process_is_dead_after_three_deaths(queue: QueueSetup) -> None:
    """Messages that ran in the same process, and died as often, still run to their end."""
    queue.send("die", 666)
    for number in range(3):
        queue.send("hold", number, 0.5)
    _run_in_spite_of_deaths(queue)
    [dead] = _dead(queue)
    assert (dead.actor_name, dead.deaths) == ("die", messages.POISON_DEATHS)
    assert "died while running it" in str(dead.reason)
    assert queue.ran().count(666) == messages.POISON_DEATHS
    assert queue.count() == 1
    assert {0, 1, 2} <= set(queue.ran())


def test_a_message_that_kills_its_process_among_quick_ones_is_dead_soon(queue: QueueSetup) -> None:
    """The first death may stay uncounted if the message was claimed ahead: it runs four times at most."""
    queue.fill("noop", 2000, delay_seconds=-60, spread_seconds=60)
    queue.send("die", 666, delay_seconds=-30)
    _run_in_spite_of_deaths(queue)
    [dead] = _dead(queue)
    assert (dead.actor_name, dead.deaths) == ("die", messages.POISON_DEATHS)
    assert len(queue.ran()) in {messages.POISON_DEATHS, messages.POISON_DEATHS + 1}
    assert queue.count() == 1


def test_an_operator_can_requeue_a_dead_message(queue: QueueSetup) -> None:
    """It waits again with its counts reset, and runs."""
    message_id = queue.send("note", 1)
    queue.run("UPDATE dramatiq.queue SET state = 'rejected', deaths = 3, failures = 5, alone = true")
    with queue.database.statement() as session:
        assert dead_messages.requeue_dead(session, [message_id]) == ["q"]
    assert queue.count("state = 'queued' AND deaths = 0 AND failures = 0 AND NOT alone") == 1
    queue.start()
    wait_until(queue.ran, 5, "it to run")


def test_a_retry_survives_the_death_of_the_process_that_scheduled_it(queue: QueueSetup) -> None:
    """The row has the due time and the reason; another process runs the message then."""
    queue.send("fail", 1)
    process = queue.start()
    wait_until(lambda: queue.count("state = 'queued' AND failures >= 1"), 10, "the first failure")
    process.kill()
    [(due_in, reason)] = queue.rows("SELECT due - mtime, reason FROM dramatiq.queue")
    assert 0.4 < due_in.total_seconds() < 10
    assert reason == "ValueError: an actor that always fails"
    before = len(queue.ran())
    queue.start()
    wait_until(lambda: len(queue.ran()) > before, 15, "the retry to run")
    assert queue.one("SELECT count(DISTINCT pid) FROM ran") == 2


def test_a_message_whose_actor_always_raises_is_dead_at_last(queue: QueueSetup) -> None:
    """It has the reason of its last failure; a message for an unknown actor is dead as well."""
    queue.send("fail", 1)
    queue.send("no_such_actor")
    queue.run("UPDATE dramatiq.queue SET failures = 9 WHERE message ->> 'actor_name' = 'fail'")
    queue.start()
    wait_until(lambda: queue.count("state = 'rejected'") == 2, 10, "both to be dead")
    reasons = {dead.actor_name: str(dead.reason) for dead in _dead(queue)}
    assert reasons["fail"] == "its actor raised 10 times, last ValueError: an actor that always fails"
    assert "no_such_actor" in reasons["no_such_actor"]


def test_a_database_outage_counts_no_failure_of_the_message(queue: QueueSetup) -> None:
    """The message is retried at every outage, until PostgreSQL is back."""
    queue.send("lose_postgres", 1)
    queue.run("UPDATE dramatiq.queue SET failures = 8")
    queue.start()
    wait_until(lambda: len(queue.ran()) == 4, 15, "it to be run again and again")
    [(state, failures, reason)] = queue.rows("SELECT state::text, failures, reason FROM dramatiq.queue")
    assert state != "rejected"
    assert failures == 8
    assert reason == "DatabaseUnavailableError: PostgreSQL is away just now"


def _run_in_spite_of_deaths(queue: QueueSetup) -> None:
    """Replace each process that dies, until only dead messages are left."""
    process = queue.launch(threads=4)
    for _ in range(8):
        wait_until(
            lambda process=process: (
                process.popen.poll() is not None or queue.count("state <> 'rejected'") == 0
            ),  # type: ignore[misc]
            30,
            "a death, or the end of all work",
        )
        if queue.count("state <> 'rejected'") == 0:
            break
        process = queue.launch(threads=4)


def _dead(queue: QueueSetup) -> list[dead_messages.Dead]:
    with queue.database.statement() as session:
        return dead_messages.dead(session)
