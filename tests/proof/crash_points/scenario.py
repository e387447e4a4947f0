"""What a flow is, and what every flow needs: to settle, and to begin from received instances."""

from collections.abc import Callable
from dataclasses import dataclass

from support.waiting import wait_until

from gateway.domain.contract import SWEEP
from proof.crash_points.child_processes import sweeper
from proof.crash_points.environment import Environment, Prepared, Run, Senders
from proof.crash_points.ledger import is_purged, settled

SETTLE_SECONDS = 30.0


def nothing(_: Run) -> None:
    """Prepare nothing."""


def no_more(_: Run) -> list[str]:
    """Check nothing beside the ledger."""
    return []


@dataclass(frozen=True)
class Scenario:
    """One flow. `victim` starts the process that dies, and `over` tells whether it has done everything."""

    name: str
    prepare: Callable[[Environment], Prepared]
    victim: str
    """`scp`, or the queue of its actors."""
    over: Callable[[Run], bool]
    arrange: Callable[[Run], None] = nothing
    """What each run needs in addition to its copy."""
    pacs_is_away: bool = False
    """The PACS is away until the restart."""
    purged: Callable[[Run], frozenset[str]] = lambda _: frozenset()
    check: Callable[[Run], list[str]] = no_more
    repair: Callable[[Run], object] | None = None
    """What an operator does after the crash, before the SCP is started again."""


def settle(run: Run, *, purged: frozenset[str] = frozenset()) -> None:
    """Run all processes until nothing is in flight, and until the SOP Instance UIDs in `purged` are gone."""
    actors, sweep = run.work("pacs", "workers", "sweep"), run.start("sweep", sweeper)
    try:
        wait_until(
            lambda: (settled(run) and is_purged(run, purged)) or actors.ended() or sweep.ended(),
            SETTLE_SECONDS,
            "it to settle",
            every=0.05,
        )
        assert not actors.ended(), actors.text()
        assert not sweep.ended(), sweep.text()
    finally:
        actors.kill()
        sweep.kill()


def received(environment: Environment, name: str, senders: Senders, empty: Prepared | None = None) -> Run:
    """Return a run in which the SCP has taken `senders`; `empty` has its configuration."""
    begins = empty or environment.empty
    run = environment.begin(Prepared(begins.folder, begins.database, senders), name)
    scp = run.serve()
    assert run.send(), scp.text()
    scp.kill()
    return run


def drained(queue: str) -> Callable[[Run], bool]:
    """Return a function that tells whether the queue is empty."""

    def over(run: Run) -> bool:
        # the ack is an actor's last step
        return not run.one("SELECT count(*) FROM dramatiq.queue WHERE queue_name = %s", queue)

    return over


def swept(run: Run) -> bool:
    """Tell whether the message of the sweep is done."""
    return not run.one(
        "SELECT count(*) FROM dramatiq.queue WHERE message ->> 'actor_name' = %s", SWEEP.actor_name
    )
