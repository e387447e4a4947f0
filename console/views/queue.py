"""The screen Queue and processes: depth, age and rates of each queue; processes; dead messages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.config import Configuration
from gateway.database.session import Session
from gateway.database.tables import configurations, dead_messages, debts, overview, processes, queues
from gateway.database.tables.configurations import Version
from gateway.database.tables.dead_messages import Dead
from gateway.database.tables.debts import Debt
from gateway.database.tables.processes import ProcessKind, ProcessRow
from gateway.database.tables.queues import BoundedDepth, ConsumerRow
from gateway.domain.routing import Route, Targets, route_of_queue
from gateway.processes.standing import Disagreement, disagreements

WINDOW = timedelta(minutes=5)
COUNT_LIMIT = 200_000
"""Each count of messages stops here."""
DIGEST_SHOWN = 12
OURS = {*Route, "sweep"}


@dataclass(frozen=True, slots=True)
class QueueShown:
    """One queue: its waiting, running and dead messages, and the runs of its actors over WINDOW."""

    name: str
    waiting: int
    later: int
    running: int
    dead: int
    oldest_seconds: float | None
    in_per_minute: float
    out_per_minute: float
    failed: int
    mean_seconds: float | None
    unserved: bool

    @property
    def is_foreign(self) -> bool:
        """Whether the edge itself does not use the queue."""
        return self.name not in OURS and route_of_queue(self.name) is None

    @property
    def is_counted_up_to_limit(self) -> bool:
        """Whether more may wait than is shown."""
        return self.waiting + self.later >= COUNT_LIMIT


@dataclass(frozen=True, slots=True)
class ProcessShown:
    """A process with its heartbeat; an actor process with what it holds, too."""

    kind: str
    serves: str
    host: str
    pid: int
    user: str
    version: str
    started_at: datetime
    state: str
    is_well: bool
    silent_seconds: float | None
    digest: str
    runs_current: bool | None
    problem: str
    threads: int | None
    holds: int | None
    oldest_seconds: float | None


@dataclass(frozen=True, slots=True)
class DeadShown:
    """A page of dead messages, the newest first; `after` is the position of the next page."""

    rows: tuple[Dead, ...]
    after: tuple[datetime, str] | None
    count: int
    is_exact: bool


@dataclass(frozen=True, slots=True)
class QueueRows:
    """What is read for the screen."""

    now: datetime
    queues: tuple[QueueShown, ...]
    processes: tuple[ProcessRow, ...]
    consumers: tuple[ConsumerRow, ...]
    runs: Version | None
    debts: tuple[Debt, ...]


@dataclass(frozen=True, slots=True)
class QueuesShown:
    """The queues, the processes, and where their configurations differ."""

    queues: tuple[QueueShown, ...]
    processes: tuple[ProcessShown, ...]
    disagreements: tuple[Disagreement, ...]
    version: int | None
    digest: str
    taken_at: datetime | None
    window_minutes: float


def read(session: Session, targets: Targets) -> QueueRows:
    """Read the queues and the processes; `targets` are those of the configuration."""
    return QueueRows(
        now=processes.now(session),
        queues=_queues(session),
        processes=tuple(processes.processes(session)),
        consumers=tuple(queues.consumers(session)),
        runs=configurations.taken(session),
        debts=tuple(debts.owed(session, targets.all)),
    )


def shown(rows: QueueRows, configuration: Configuration) -> QueuesShown:
    """Return the screen; `configuration` is that of the file."""
    runs = rows.runs
    return QueuesShown(
        queues=rows.queues,
        processes=tuple(_processes(rows.processes, rows.consumers, None if runs is None else runs.digest)),
        disagreements=tuple(disagreements(configuration, runs, rows.processes, rows.debts)),
        version=None if runs is None else runs.version,
        digest="" if runs is None else runs.digest[:DIGEST_SHOWN],
        taken_at=None if runs is None else runs.decided_at,
        window_minutes=WINDOW.total_seconds() / 60,
    )


def look_at_dead(
    session: Session, *, limit: int, after: tuple[datetime, str] | None, queue: str | None
) -> DeadShown:
    """Read a page of dead messages, of one queue where it is named."""
    found = dead_messages.dead(session, limit + 1, after, queue)
    count = dead_messages.count_up_to(session, limit=COUNT_LIMIT, queue_name=queue)
    rows = tuple(found[:limit])
    following = (rows[-1].since, rows[-1].message_id) if len(found) > limit else None
    return DeadShown(rows, following, count, count < COUNT_LIMIT)


def _queues(session: Session) -> tuple[QueueShown, ...]:
    depths = queues.bounded_depths(session, WINDOW, limit=COUNT_LIMIT)
    flows = {one.queue_name: one for one in queues.finished(session, WINDOW)}
    without = {one.queue_name for one in overview.unserved(session)}
    names = sorted({one.queue_name for one in depths} | set(flows) | without)
    minutes = WINDOW.total_seconds() / 60
    shown = []
    for name in names:
        waiting = _of(depths, name, "queued")
        running = _of(depths, name, "consumed")
        dead = _of(depths, name, "rejected")
        flow = flows.get(name)
        calls = 0 if flow is None else flow.done + flow.failed
        arrived = (0 if flow is None else flow.arrived) + sum(
            one.recent for one in (waiting, running) if one is not None
        )
        shown.append(
            QueueShown(
                name=name,
                waiting=0 if waiting is None else waiting.count - waiting.later,
                later=0 if waiting is None else waiting.later,
                running=0 if running is None else running.count,
                dead=0 if dead is None else dead.count,
                oldest_seconds=None if waiting is None else waiting.oldest_seconds,
                in_per_minute=arrived / minutes,
                out_per_minute=0.0 if flow is None else flow.done / minutes,
                failed=0 if flow is None else flow.failed,
                mean_seconds=flow.seconds / calls if flow is not None and calls else None,
                unserved=name in without,
            )
        )
    return tuple(shown)


def _of(depths: list[BoundedDepth], name: str, state: str) -> BoundedDepth | None:
    return next((one for one in depths if one.queue_name == name and one.state == state), None)


def _processes(
    rows: Sequence[ProcessRow], consumers: Sequence[ConsumerRow], digest: str | None
) -> list[ProcessShown]:
    by_id = {one.id: one for one in consumers}
    shown = []
    for row in rows:
        consumer = None if row.consumer_id is None else by_id.pop(row.consumer_id, None)
        shown.append(
            ProcessShown(
                kind=row.kind.value,
                serves=row.serves,
                host=row.host,
                pid=row.pid,
                user=row.os_user,
                version=row.version,
                started_at=row.started_at,
                state=_state(row),
                is_well=row.beats and row.spool_problem is None,
                silent_seconds=row.silent_seconds,
                digest=(row.configuration_digest or "")[:DIGEST_SHOWN],
                runs_current=_runs_current(row, digest),
                problem=row.spool_problem or _restart(row),
                threads=None if consumer is None else consumer.threads,
                holds=None if consumer is None else consumer.holds,
                oldest_seconds=None if consumer is None else consumer.oldest_seconds,
            )
        )
    return [*shown, *(_without_heartbeat(one) for one in by_id.values())]


def _runs_current(row: ProcessRow, digest: str | None) -> bool | None:
    """Return None for a process without a configuration of its own, and while none was taken."""
    if row.kind is ProcessKind.SERVE or row.configuration_digest is None or digest is None:
        return None
    return row.configuration_digest == digest


def _state(row: ProcessRow) -> str:
    if row.beats:
        return "runs"
    return "hangs or is stopped" if row.is_frozen else "is gone"


def _restart(row: ProcessRow) -> str:
    return f"needs a restart for {', '.join(row.restart_for)}" if row.restart_for else ""


def _without_heartbeat(consumer: ConsumerRow) -> ProcessShown:
    """Show a consumer that writes no heartbeat: one of another program, or one that is starting or gone."""
    return ProcessShown(
        kind="consumer",
        serves=", ".join(consumer.queue_names),
        host=consumer.host,
        pid=consumer.pid,
        user="",
        version="",
        started_at=consumer.started_at,
        state="runs, without a heartbeat" if consumer.alive else "is gone",
        is_well=consumer.alive,
        silent_seconds=None,
        digest="",
        runs_current=None,
        problem="",
        threads=consumer.threads,
        holds=consumer.holds,
        oldest_seconds=consumer.oldest_seconds,
    )
