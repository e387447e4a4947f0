"""kill -9 of actor processes: what they held runs elsewhere, and what killed them does not run for ever."""

import time

from support.queue_bed import QueueBed
from support.waiting import wait_until

from gateway.database.tables import messages


def test_what_a_killed_process_held_runs_elsewhere_within_5_seconds(bed: QueueBed) -> None:
    """The others see that its lock is gone; their own work is not disturbed."""
    victim = bed.start(threads=4)
    for number in range(4):
        bed.send("hold", number, 60)
    wait_until(lambda: bed.count("state = 'consumed'") == 4, 10, "the victim to hold all")
    wait_until(lambda: len(bed.ran()) == 4, 5, "all to have begun")
    bed.start(threads=4)
    victim.kill()
    killed = time.monotonic()
    wait_until(lambda: len(bed.ran()) == 8, 5, "all to begin elsewhere")
    assert time.monotonic() - killed < 5
    assert bed.count("state = 'consumed' AND deaths = 1") == 4
    assert bed.one("SELECT count(*) FROM dramatiq.consumers") == 1


def test_after_all_were_killed_a_new_one_goes_on_within_5_seconds(bed: QueueBed) -> None:
    """Of its start: the work of the dead is found then, not only by those who watched them die."""
    processes = [bed.start(threads=2), bed.start(threads=2)]
    for number in range(4):
        bed.send("hold", number, 60)
    wait_until(lambda: len(bed.ran()) == 4, 10, "all to have begun")
    for process in processes:
        process.kill()
    started = time.monotonic()
    bed.launch(threads=4)
    wait_until(lambda: len(bed.ran()) == 8, 5, "all to begin again")
    assert time.monotonic() - started < 5


def test_a_graceful_stop_finishes_what_runs_and_counts_no_death(bed: QueueBed) -> None:
    """SIGTERM: running actors end, nothing else begins, no row of the consumer remains."""
    process = bed.start(threads=2)
    for number in range(6):
        bed.send("hold", number, 1.5)
    wait_until(lambda: len(bed.ran()) == 2, 10, "two to have begun")
    assert process.stop() == 0
    assert len(bed.ran()) == 2
    assert bed.count("state = 'queued' AND deaths = 0") == 4
    assert bed.count() == 4
    assert bed.one("SELECT count(*) FROM dramatiq.consumers") == 0


STOPPING = "SELECT count(*) FROM dramatiq.consumers WHERE stopping_since IS NOT NULL"


def test_being_killed_while_stopping_counts_no_death(bed: QueueBed) -> None:
    """An orderly shutdown whose grace runs out, as often as a message that kills its process may die."""
    bed.send("hold", 1, 300)
    bed.send("hold", 2, 300)
    for round_ in range(1, messages.POISON_DEATHS + 1):
        process = bed.start(threads=2)
        wait_until(lambda round_=round_: len(bed.ran()) == 2 * round_, 20, "both to have begun")  # type: ignore[misc]
        process.popen.terminate()
        wait_until(
            lambda: bed.one("SELECT count(*) FROM dramatiq.consumers WHERE stopping_since IS NOT NULL"),
            10,
            "the mark",
        )
        process.kill()
    bed.start(threads=2)
    wait_until(lambda: len(bed.ran()) == 2 * (messages.POISON_DEATHS + 1), 20, "both to begin again")
    assert bed.count("state = 'consumed' AND deaths = 0 AND NOT alone") == 2


def test_a_message_that_kills_its_process_is_dead_after_three(bed: QueueBed) -> None:
    """Its neighbours, which die with the process as often, run to their end in spite of it."""
    bed.send("die", 666)
    for number in range(3):
        bed.send("hold", number, 0.5)
    _run_in_spite_of_deaths(bed)
    [dead] = _dead(bed)
    assert (dead.actor_name, dead.deaths) == ("die", messages.POISON_DEATHS)
    assert "died while running it" in str(dead.reason)
    assert bed.ran().count(666) == messages.POISON_DEATHS
    assert bed.count() == 1
    assert {0, 1, 2} <= set(bed.ran())


def test_a_killer_among_quick_messages_is_dead_soon_and_they_run(bed: QueueBed) -> None:
    """Claimed ahead its death may go uncounted, once: four times it runs at most."""
    bed.fill("noop", 2000, delay_seconds=-60, spread_seconds=60)
    bed.send("die", 666, delay_seconds=-30)
    _run_in_spite_of_deaths(bed)
    [dead] = _dead(bed)
    assert (dead.actor_name, dead.deaths) == ("die", messages.POISON_DEATHS)
    assert len(bed.ran()) in {messages.POISON_DEATHS, messages.POISON_DEATHS + 1}
    assert bed.count() == 1


def test_an_operator_can_requeue_a_dead_message(bed: QueueBed) -> None:
    """It waits again with a clean record, and runs."""
    message_id = bed.send("note", 1)
    bed.run("UPDATE dramatiq.queue SET state = 'rejected', deaths = 3, failures = 5, alone = true")
    with bed.database.statement() as session:
        assert messages.requeue_dead(session, [message_id]) == ["q"]
    assert bed.count("state = 'queued' AND deaths = 0 AND failures = 0 AND NOT alone") == 1
    bed.start()
    wait_until(bed.ran, 5, "it to run")


def test_a_retry_survives_the_death_of_who_scheduled_it(bed: QueueBed) -> None:
    """An actor that raised is due again in its row, with its reason; another process runs it then."""
    bed.send("fail", 1)
    process = bed.start()
    wait_until(lambda: bed.count("state = 'queued' AND failures >= 1"), 10, "the first failure")
    process.kill()
    [(due_in, reason)] = bed.rows("SELECT due - mtime, reason FROM dramatiq.queue")
    assert 0.4 < due_in.total_seconds() < 10
    assert reason == "ValueError: an actor that always fails"
    before = len(bed.ran())
    bed.start()
    wait_until(lambda: len(bed.ran()) > before, 15, "the retry to run")
    assert bed.one("SELECT count(DISTINCT pid) FROM ran") == 2


def test_an_actor_that_always_raises_is_dead_at_last(bed: QueueBed) -> None:
    """With the reason, after its last failure; and so is a message for no actor at all."""
    bed.send("fail", 1)
    bed.send("no_such_actor")
    bed.run("UPDATE dramatiq.queue SET failures = 9 WHERE message ->> 'actor_name' = 'fail'")
    bed.start()
    wait_until(lambda: bed.count("state = 'rejected'") == 2, 10, "both to be dead")
    reasons = {dead.actor_name: str(dead.reason) for dead in _dead(bed)}
    assert reasons["fail"] == "its actor raised 10 times, last ValueError: an actor that always fails"
    assert "no_such_actor" in reasons["no_such_actor"]


def test_what_says_nothing_about_the_message_counts_no_failure(bed: QueueBed) -> None:
    """PostgreSQL that was away, however often: run again until it is there, and no nearer to its death."""
    bed.send("lose_postgres", 1)
    bed.run("UPDATE dramatiq.queue SET failures = 8")
    bed.start()
    wait_until(lambda: len(bed.ran()) == 4, 15, "it to be run again and again")
    [(state, failures, reason)] = bed.rows("SELECT state::text, failures, reason FROM dramatiq.queue")
    assert state != "rejected"
    assert failures == 8
    assert reason == "DatabaseUnavailableError: PostgreSQL is away just now"


def _run_in_spite_of_deaths(bed: QueueBed) -> None:
    """Each process that dies is followed by another, until nothing waits that is not dead."""
    process = bed.launch(threads=4)
    for _ in range(8):
        wait_until(
            lambda process=process: process.popen.poll() is not None or bed.count("state <> 'rejected'") == 0,  # type: ignore[misc]
            30,
            "a death, or the end of all work",
        )
        if bed.count("state <> 'rejected'") == 0:
            break
        process = bed.launch(threads=4)


def _dead(bed: QueueBed) -> list[messages.Dead]:
    with bed.database.statement() as session:
        return messages.dead(session)
