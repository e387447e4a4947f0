"""The figures that are in PostgreSQL: counters, deliveries, queues, destinations, results."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta

from gateway import log
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import counters, destinations, faults, metrics, sweeps
from gateway.database.tables.metrics import LivingProcess
from gateway.database.tables.processes import ProcessKind
from gateway.domain import contract
from gateway.domain.delivery import State
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route
from gateway.errors import DatabaseError, DatabaseRefusedError
from gateway.log import Stage
from gateway.metrics.counted import counted
from gateway.metrics.current import CurrentConfiguration
from gateway.metrics.families import Samples, process_figures
from gateway.processes.own_figures import ASSOCIATIONS

DEADLINE = timedelta(seconds=4)
"""Of each statement; must be less than the time that Prometheus waits for a scrape, 10 s by default."""
UNSETTLED = (State.PENDING, State.IN_FLIGHT, State.DEAD)
REPEAT = "repeat"
"""The kind of a reception that repeats a stored instance."""
FENCED = "fenced"
"""The outcome of an attempt whose claim no longer held."""
RESULT_OUTCOMES = ("arrived", "late", "timed_out")
DIRECTION = {ProcessKind.RECEIVER: "in", ProcessKind.ACTORS: "out"}
"""From where the associations of a process come, or where they go."""


class FromDatabase:
    """The figures of `database`. While it cannot be reached, only `postgres_up` 0."""

    def __init__(self, current: CurrentConfiguration, database: Database) -> None:
        self._current = current
        self._database = database
        self._is_up = True

    def __call__(self) -> Samples:
        """Return the figures; log when PostgreSQL is lost."""
        samples = Samples()
        try:
            with suppress(DatabaseRefusedError), self._database.transaction() as session:
                # PostgreSQL may be read-only, or busy: the counters are then those of the last time.
                metrics.set_deadline(session, DEADLINE)
                metrics.fold(session)
            with self._database.transaction() as session:
                metrics.set_deadline(session, DEADLINE)
                self._read(session, samples)
        except DatabaseError as error:
            samples = Samples()
            if self._is_up:
                log.write(Stage.DB, "waiting", level="warning", error=str(error))
            self._is_up = False
        else:
            self._is_up = True
        samples.set("postgres_up", 1 if self._is_up else 0)
        return samples

    def _read(self, session: Session, samples: Samples) -> None:
        counted(samples, counters.totals(session))
        self._deliveries(session, samples)
        self._destinations(session, samples)
        for run in sweeps.last_runs(session):
            samples.set("sweep_last_run_timestamp_seconds", run.ran_at.timestamp(), verb=run.verb)
        samples.set("faults_active", len(faults.injected(session)))
        of_processes(samples, metrics.processes(session))

    def _deliveries(self, session: Session, samples: Samples) -> None:
        targets = self._current().forwarder.targets.all
        for one in metrics.unsettled(session, targets):
            samples.set("deliveries", one.count, destination=one.target, state=one.state.value)
        for target in targets:
            samples.zero("deliveries_cancelled_total", destination=target.name)
        for oldest in metrics.oldest_pending(session, targets):
            samples.set("oldest_pending_seconds", oldest.seconds, destination=oldest.target)
        queues = [*(target.queue for target in targets), contract.SWEEP.queue_name]
        for queue in metrics.queue_figures(session, queues):
            name = queue.queue_name
            samples.set("queue_messages", queue.queued, queue=name, state="queued")
            samples.set("queue_messages", queue.consumed, queue=name, state="consumed")
            samples.set("queue_messages", queue.dead, queue=name, state="dead")
            samples.set("queue_latency_seconds", queue.latency_seconds, queue=name)
            samples.set("queue_consumers", queue.consumers, queue=name)

    def _destinations(self, session: Session, samples: Samples) -> None:
        for one in destinations.states(session):
            name = one.ae_title
            is_up = one.breaker == "closed" and not one.is_tried
            kind = "worker" if one.route is Route.WORKERS else "archive"
            samples.set("destination_info", 1, destination=name, kind=kind)
            samples.set("destination_up", is_up, destination=name)
            samples.set("destination_paused", one.paused, destination=name)
            for outcome in (*Outcome, FENCED):
                samples.zero("delivery_attempts_total", destination=name, outcome=outcome)
            if one.route is Route.WORKERS:
                samples.set("results_owed", one.outstanding, destination=name)
                for word in RESULT_OUTCOMES:
                    samples.zero("results_total", destination=name, outcome=word)
        for success in metrics.last_successes(session):
            samples.set(
                "destination_last_success_timestamp_seconds",
                success.succeeded_at,
                destination=success.destination,
            )


def of_processes(samples: Samples, living: Iterable[LivingProcess]) -> None:
    """Add what each process costs, and the open associations of all."""
    associations = {DIRECTION[kind]: 0.0 for kind in DIRECTION}
    for one in living:
        name = f"{one.kind.value}-{one.serves}" if one.kind is ProcessKind.ACTORS else one.kind.value
        process_figures(samples, one.started_at, one.figures, process=name, host=one.host, pid=str(one.pid))
        if one.kind in DIRECTION:
            associations[DIRECTION[one.kind]] += one.figures.get(ASSOCIATIONS, 0.0)
    for direction, count in associations.items():
        samples.set("associations", count, direction=direction)
