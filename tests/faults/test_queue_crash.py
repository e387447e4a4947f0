"""kill -9 of actor processes: what they held runs elsewhere, and what killed them does not run for ever."""

import time

from support.queue_setup import QueueSetup
from support.waiting import wait_until

from gateway.database.tables import messages


def test_what_a_killed_process_held_runs_elsewhere_within_5_seconds(queue: QueueSetup) -> None:
    """The others see that its lock is gone; their own work is not disturbed."""
    victim = queue.start(threads=4)
    for number in range(4):
        queue.send("hold", number, 60)
    wait_until(lambda: queue.count("state = 'consumed'") == 4, 10, "the victim to hold all")
    wait_until(lambda: len(queue.ran()) == 4, 5, "all to have begun")
    queue.start(threads=4)
    victim.kill()
    killed = time.monotonic()
    wait_until(lambda: len(queue.ran()) == 8, 5, "all to begin elsewhere")
    assert time.monotonic() - killed < 5
    assert queue.count("state = 'consumed' AND deaths = 1") == 4
    assert queue.one("SELECT count(*) FROM dramatiq.consumers") == 1


def test_after_all_were_killed_a_new_one_goes_on_within_5_seconds(queue: QueueSetup) -> None:
    """Of its start: the work of the dead is found then, not only by those who watched them die."""
    processes = [queue.start(threads=2), queue.start(threads=2)]
    for number in range(4):
        queue.send("hold", number, 60)
    wait_until(lambda: len(queue.ran()) == 4, 10, "all to have begun")
    for process in processes:
        process.kill()
    started = time.monotonic()
    queue.launch(threads=4)
    wait_until(lambda: len(queue.ran()) == 8, 5, "all to begin again")
    assert time.monotonic() - started < 5


def test_a_graceful_stop_finishes_what_runs_and_counts_no_death(queue: QueueSetup) -> None:
    """SIGTERM: running actors end, nothing else begins, no row of the consumer remains."""
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


def test_being_killed_while_stopping_counts_no_death(queue: QueueSetup) -> None:
    """An orderly shutdown whose grace runs out, as often as a message that kills its process may die."""
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


def test_a_message_that_kills_its_process_is_dead_after_three(queue: QueueSetup) -> None:
    """Its neighbours, which die with the process as often, run to their end in spite of it."""
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


def test_a_killer_among_quick_messages_is_dead_soon_and_they_run(queue: QueueSetup) -> None:
    """Claimed ahead its death may go uncounted, once: four times it runs at most."""
    queue.fill("noop", 2000, delay_seconds=-60, spread_seconds=60)
    queue.send("die", 666, delay_seconds=-30)
    _run_in_spite_of_deaths(queue)
    [dead] = _dead(queue)
    assert (dead.actor_name, dead.deaths) == ("die", messages.POISON_DEATHS)
    assert len(queue.ran()) in {messages.POISON_DEATHS, messages.POISON_DEATHS + 1}
    assert queue.count() == 1


def test_an_operator_can_requeue_a_dead_message(queue: QueueSetup) -> None:
    """It waits again with a clean record, and runs."""
    message_id = queue.send("note", 1)
    queue.run("UPDATE dramatiq.queue SET state = 'rejected', deaths = 3, failures = 5, alone = true")
    with queue.database.statement() as session:
        assert messages.requeue_dead(session, [message_id]) == ["q"]
    assert queue.count("state = 'queued' AND deaths = 0 AND failures = 0 AND NOT alone") == 1
    queue.start()
    wait_until(queue.ran, 5, "it to run")


def test_a_retry_survives_the_death_of_who_scheduled_it(queue: QueueSetup) -> None:
    """An actor that raised is due again in its row, with its reason; another process runs it then."""
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


def test_an_actor_that_always_raises_is_dead_at_last(queue: QueueSetup) -> None:
    """With the reason, after its last failure; and so is a message for no actor at all."""
    queue.send("fail", 1)
    queue.send("no_such_actor")
    queue.run("UPDATE dramatiq.queue SET failures = 9 WHERE message ->> 'actor_name' = 'fail'")
    queue.start()
    wait_until(lambda: queue.count("state = 'rejected'") == 2, 10, "both to be dead")
    reasons = {dead.actor_name: str(dead.reason) for dead in _dead(queue)}
    assert reasons["fail"] == "its actor raised 10 times, last ValueError: an actor that always fails"
    assert "no_such_actor" in reasons["no_such_actor"]


def test_what_says_nothing_about_the_message_counts_no_failure(queue: QueueSetup) -> None:
    """PostgreSQL that was away, however often: run again until it is there, and no nearer to its death."""
    queue.send("lose_postgres", 1)
    queue.run("UPDATE dramatiq.queue SET failures = 8")
    queue.start()
    wait_until(lambda: len(queue.ran()) == 4, 15, "it to be run again and again")
    [(state, failures, reason)] = queue.rows("SELECT state::text, failures, reason FROM dramatiq.queue")
    assert state != "rejected"
    assert failures == 8
    assert reason == "DatabaseUnavailableError: PostgreSQL is away just now"


def _run_in_spite_of_deaths(queue: QueueSetup) -> None:
    """Each process that dies is followed by another, until nothing waits that is not dead."""
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


def _dead(queue: QueueSetup) -> list[messages.Dead]:
    with queue.database.statement() as session:
        return messages.dead(session)
