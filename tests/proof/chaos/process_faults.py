"""kill -9, SIGSTOP and SIGCONT and restarts of the lab's processes, and PostgreSQL ending all connections."""

import signal
from collections.abc import Callable

from gateway.database.pool import Database
from gateway.database.queries import Query
from gateway.lab import stray_processes
from proof.chaos.faults import Pick
from proof.chaos.setup import Setup

End = Callable[[], None]

_HANG_UP = Query(
    "hang_up",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
)


def kill(setup: Setup, pick: Pick) -> End | None:
    """Send SIGKILL to the leader."""
    if setup.supervisor.pid(pick.kind.target) is None:
        return None
    setup.supervisor.kill(pick.kind.target)
    return _nothing


def kill_child(setup: Setup, pick: Pick) -> End | None:
    """Send SIGKILL to one process below the leader."""
    chosen = setup.choose(pick.kind.target, pick.dice, below=True)
    stray_processes.send(chosen, signal.SIGKILL)
    return _nothing if chosen else None


def stop(setup: Setup, pick: Pick) -> End | None:
    """Send SIGSTOP to the leader and all processes below it; SIGCONT at the end."""
    return _stop(setup.choose(pick.kind.target, pick.dice, below=False))


def stop_child(setup: Setup, pick: Pick) -> End | None:
    """Send SIGSTOP to one process below the leader; SIGCONT at the end."""
    return _stop(setup.choose(pick.kind.target, pick.dice, below=True))


def take_away(setup: Setup, pick: Pick) -> End | None:
    """End the program in order; start it again at the end."""
    setup.supervisor.take_down(pick.kind.target)
    return lambda: setup.supervisor.bring_up(pick.kind.target)


def restart(setup: Setup, pick: Pick) -> End | None:
    """End the program in order, and start it again at once."""
    setup.supervisor.take_down(pick.kind.target)
    setup.supervisor.bring_up(pick.kind.target)
    return _nothing


def hang_up(setup: Setup, _pick: Pick) -> End | None:
    """Let PostgreSQL end every session."""
    database = Database(setup.lab.postgres.dsn(), application_name="chaos", size=1)
    try:
        with database.statement() as session:
            session.all(_HANG_UP)
    finally:
        database.close()
    return _nothing


def _stop(pids: list[int]) -> End | None:
    stray_processes.send(pids, signal.SIGSTOP)
    return (lambda: stray_processes.send(pids, signal.SIGCONT)) if pids else None


def _nothing() -> None:
    """Do nothing: the fault was over when it began."""
