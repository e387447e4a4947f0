"""The crash points program itself: a process dies at the given point, and the ledger finds a loss."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from proof.crash_points import left_receptions, rare_receptions
from proof.crash_points.environment import Environment, Prepared, Run
from proof.crash_points.flows import SCENARIOS
from proof.crash_points.ledger import deviations, settled
from proof.crash_points.points import Kind, Point, When, read_trace
from proof.crash_points.scenario import settle
from proof.crash_points.trials import Trials
from support.waiting import wait_until

from gateway import config
from gateway.lab.postgres import EmbeddedPostgres

RECEIVE, RECEIVE_MORE, GIVE_UP, RECOVER = SCENARIOS[:4]
REGISTERS = "gateway.register.registration.Registration."


@pytest.fixture(scope="module")
def environment(postgres: EmbeddedPostgres) -> Iterator[Environment]:
    """Yield a environment on the PostgreSQL of the session."""
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-tests-"))
    with pytest.MonkeyPatch.context() as variables:
        for name in ("DATABASE_URL", config.PATH_VARIABLE):
            variables.setenv(name, "")  # each run sets them; they are restored afterwards
        environment = Environment(folder, postgres)
        yield environment
        environment.close()


@pytest.fixture(scope="module")
def closed(environment: Environment) -> Prepared:
    """Return a run whose ledger closes."""
    run = environment.begin(RECEIVE.prepare(environment))
    run.peers()
    scp = run.serve()
    assert run.send()
    scp.kill()
    settle(run)
    return environment.keep(run)


def test_a_victim_dies_at_its_point_and_nowhere_else(environment: Environment) -> None:
    """Killed before the commit of a registration it leaves no row, killed after it the row.

    The sender has its Success in both cases; the trace ends at the point.
    """
    prepared = RECEIVE.prepare(environment)
    trials = Trials(environment, RECEIVE, prepared)
    assert not trials.dry().deviations
    number = next(
        number
        for (kind, number), site in sorted(trials.sites.items())
        if kind is Kind.COMMIT and site.startswith(REGISTERS)
    )
    for when, rows in ((When.BEFORE, 0), (When.AFTER, 1)):
        run = environment.begin(prepared)
        try:
            victim = run.serve(run.trap(Point(Kind.COMMIT, number, when)))
            assert not run.send()
            wait_until(victim.ended, 10, "it to die")
            assert len(run.senders.acknowledged) == len(run.unregistered()) == 1
            assert run.one("SELECT count(*) FROM instances") == rows
            assert (Kind.COMMIT, number) in read_trace(run.trace)
        finally:
            environment.drop(run)


def test_flush_comes_before_success_and_the_link_goes_after_the_commit(environment: Environment) -> None:
    """G1, which a SIGKILL cannot show.

    The file is written with its envelope, file and folder are flushed, then Success is sent. The `.part`
    link is removed after the commit of its registration.
    """
    trials = Trials(environment, RECEIVE)
    assert not trials.dry().deviations
    sealed = flushed = answered = committed = removed = 0
    for (kind, _), site in trials.sites.items():
        if kind is Kind.WRITE and site.endswith("Partial.write"):  # small ones: by one call
            sealed += 1
        elif kind is Kind.FSYNC and site.endswith("Partial.flush"):
            assert sealed > answered
            flushed += 1
        elif kind is Kind.SEND and site.endswith("Messages._answer"):
            answered += 1
            assert flushed == 2 * answered
        elif kind is Kind.COMMIT and site.startswith(REGISTERS):
            committed += 1
        elif kind is Kind.UNLINK and site.endswith("received_file.remove_link"):
            removed += 1
            assert committed == removed
    assert sealed == answered == removed == 5


def test_no_point_of_postgresql_comes_before_success(environment: Environment) -> None:
    """G1: with PostgreSQL away everything is received, and registered by the next receiver."""
    run = environment.begin(RECEIVE.prepare(environment))
    try:
        run.serve()  # a spool that was never paired with a database receives nothing without it
        run.kill()
        scp = run.serve(run.trap(None), away=True)
        assert run.send(steadily=False)
        scp.kill()
        kinds = {kind for kind, _ in read_trace(run.trace)}
        assert Kind.SEND in kinds
        assert not kinds & {Kind.COMMIT, Kind.STATEMENT}
        assert len(run.unregistered()) == 5
        run.peers()
        run.serve()
        run.await_registered()
        assert not run.died()
        run.kill()
        settle(run)
        assert deviations(run) == []
    finally:
        environment.drop(run)


def test_the_second_receive_flow_covers_what_the_first_does_not(
    environment: Environment,
) -> None:
    """A batch, several writes, a second link, a repeat that replaces a lost file."""
    run = environment.begin(RECEIVE_MORE.prepare(environment))
    before = {outcome: run.logged(outcome) for outcome in ("stored", "conflict", "owed_again")}
    known = len(run.rows("SELECT FROM instances"))
    try:
        scp = run.serve(run.trap(None))
        assert RECEIVE_MORE.over(run), scp.text()
        scp.kill()
        verdicts = {outcome: run.logged(outcome) - count for outcome, count in before.items()}
        assert verdicts == {"stored": 4, "conflict": 1, "owed_again": 2}
        assert run.one("SELECT max(data_set_size) FROM instances") > rare_receptions.LARGE_BYTES
        assert run.one("SELECT count(*) FROM instances") == known + 5
        passed = [(kind, site) for (kind, _), site in read_trace(run.trace).items()]
        commits = [site for kind, site in passed if kind is Kind.COMMIT]
        assert sum(site.endswith("Registration._together") for site in commits) == 1, "two share a commit"
        assert sum(site.endswith("Registration._commit") for site in commits) == sum(verdicts.values()) - 2
        assert sum(site.startswith("gateway.register.repeat.") for site in commits) == 1, "of a lost file"
        links = sum(kind is Kind.LINK for kind, _ in passed)
        assert links == sum(verdicts.values()) + 1, "the name of the conflict was taken"
    finally:
        environment.drop(run)


def test_the_flow_of_a_refused_reception_gives_it_up(environment: Environment) -> None:
    """Its link is in partial/refused/, and its file in failed/; the others of its batch are registered."""
    run = environment.begin(GIVE_UP.prepare(environment))
    try:
        scp = run.serve(run.trap(None))
        assert GIVE_UP.over(run), scp.text()
        wait_until(lambda: list((run.root / "failed").rglob("*.dcm")), 10, "its file to be moved")
        scp.kill()
        assert len(left_receptions.refused(run)) == 1
        assert run.one("SELECT count(*) FROM instances") == len(run.senders.acknowledged) - 1
    finally:
        environment.drop(run)


def test_the_flow_of_recovery_finds_each_kind_of_left_file(environment: Environment) -> None:
    """New ones, repeats, conflicts, two results; one without its name, one torn, one never finished."""
    run = environment.begin(RECOVER.prepare(environment))
    try:
        scp = run.serve(run.trap(None))
        assert RECOVER.over(run), scp.text()
        scp.kill()
        sites = set(read_trace(run.trace).values())
        assert {
            "gateway.correlate._record",
            "gateway.register.recovery.flush_file",
            "gateway.register.recovery.set_damaged_aside",
            "gateway.register.recovery.Recovery.examine",
            "gateway.register.received_file.rename",
            "gateway.register.repeat.remove_or_use_file",
            "gateway.spool.places.Places._link",
        } <= sites
    finally:
        environment.drop(run)


def _lose_a_row(run: Run) -> None:
    run.run("DELETE FROM instances WHERE id = (SELECT min(id) FROM instances)")


def _lose_a_debt(run: Run) -> None:
    run.run("DELETE FROM deliveries WHERE id = (SELECT min(id) FROM deliveries)")


def _believe_it_was_delivered(run: Run) -> None:
    run.journal.write_text("".join(run.journal.read_text().splitlines(keepends=True)[1:]))


def _change_a_byte(run: Run) -> None:
    path = next(iter(run.files()))
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def _leave_a_part(run: Run) -> None:
    (run.root / "partial" / "00000000.part").touch()


def _lose_a_file(run: Run) -> None:
    next(iter(run.files())).unlink()


def _leave_a_stray(run: Run) -> None:
    path = next(iter(run.files()))
    shutil.copyfile(path, path.with_name("1.2.3.dcm"))


def _forget_a_deadline(run: Run) -> None:
    run.run("DELETE FROM dramatiq.queue")


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (_lose_a_row, "was acknowledged and is gone"),
        (_lose_a_debt, "not owed"),
        (_believe_it_was_delivered, "taken 0 times"),
        (_change_a_byte, "not the bytes that were sent"),
        (_leave_a_part, "not in its place: partial/00000000.part"),
        (_lose_a_file, "not the bytes that were sent"),
        (_leave_a_stray, "1.2.3.dcm"),
        (_forget_a_deadline, "has no message at its deadline"),
    ],
)
def test_the_ledger_names_each_kind_of_loss(
    environment: Environment, closed: Prepared, harm: Callable[[Run], None], says: str
) -> None:
    """It has no deviation before the loss, and names the loss afterwards."""
    run = environment.begin(closed)
    try:
        assert settled(run)
        assert deviations(run) == []
        harm(run)
        found = deviations(run)
        assert any(says in sentence for sentence in found), found
    finally:
        environment.drop(run)
