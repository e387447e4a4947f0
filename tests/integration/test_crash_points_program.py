"""The crash points program itself: a process dies at the given point, and the ledger finds a loss."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from proof.crash_points.environment import Environment, Prepared, Run
from proof.crash_points.ledger import deviations, settled
from proof.crash_points.points import Kind, Point, When, read_trace
from proof.crash_points.scenario import SCENARIOS, settle
from proof.crash_points.trials import Trials
from support.waiting import wait_until

from gateway import config
from gateway.lab.postgres import EmbeddedPostgres
from gateway.receive.c_store import LARGE_BYTES

RECEIVE, RECEIVE_MORE = SCENARIOS[:2]


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
    """Killed before a commit it leaves no row, killed after it all rows; the trace ends at the point."""
    prepared = RECEIVE.prepare(environment)
    trials = Trials(environment, RECEIVE, prepared)
    assert not trials.dry().deviations
    number = next(
        number
        for (kind, number), site in sorted(trials.sites.items())
        if kind is Kind.COMMIT and "commit_originals" in site
    )
    for when, rows in ((When.BEFORE, 0), (When.AFTER, 1)):
        run = environment.begin(prepared)
        try:
            victim = run.serve(run.trap(Point(Kind.COMMIT, number, when)))
            assert not run.send()
            wait_until(victim.ended, 10, "it to die")
            assert not run.senders.acknowledged
            assert run.one("SELECT count(*) FROM instances") == rows
            assert list(read_trace(run.trace))[-1] == (Kind.COMMIT, number)
        finally:
            environment.drop(run)


def test_flush_comes_before_commit_and_commit_before_success(environment: Environment) -> None:
    """G1, which a SIGKILL cannot show.

    File and folder are flushed, then the rows are committed, then Success is sent.
    """
    trials = Trials(environment, RECEIVE)
    assert not trials.dry().deviations
    flushed = committed = answered = 0
    for (kind, _), site in trials.sites.items():
        if kind is Kind.FSYNC and site.startswith(
            ("gateway.spool.partial.Partial.", "gateway.spool.places.Places._")
        ):
            flushed += 1
        elif kind is Kind.COMMIT and "Committer" in site:
            committed += 1
            assert flushed >= 2 * committed
        elif kind is Kind.SEND and site.endswith("Messages._answer"):
            answered += 1
            assert committed >= answered
    assert answered == 5


def test_the_second_receive_flow_covers_what_the_first_does_not(
    environment: Environment,
) -> None:
    """A batch, a second link, a flush before the rows, a repeat that replaces a lost file."""
    run = environment.begin(RECEIVE_MORE.prepare(environment))
    before = {outcome: run.logged(outcome) for outcome in ("stored", "conflict", "owed_again")}
    known = len(run.rows("SELECT FROM instances"))
    try:
        scp = run.serve(run.trap(None))
        assert RECEIVE_MORE.over(run), scp.text()
        scp.kill()
        verdicts = {outcome: run.logged(outcome) - count for outcome, count in before.items()}
        assert verdicts == {"stored": 4, "conflict": 1, "owed_again": 2}
        assert run.one("SELECT max(data_set_size) FROM instances") > LARGE_BYTES
        assert run.one("SELECT count(*) FROM instances") == known + 5
        passed = [(kind, site) for (kind, _), site in read_trace(run.trace).items()]
        commits = [site for kind, site in passed if kind is Kind.COMMIT]
        received = sum(site.startswith("gateway.receive.commit.") for site in commits)
        assert received == sum(verdicts.values()) - 1, "two of the three at once share a commit"
        assert sum(site.startswith("gateway.receive.repeat.") for site in commits) == 1, "of a lost file"
        links = sum(kind is Kind.LINK for kind, _ in passed)
        assert links == sum(verdicts.values()) + 1, "the name of the conflict was taken"
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
