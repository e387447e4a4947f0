"""Read database and spool for a diagnosis, each part within a short time; a part may fail."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from time import monotonic

from gateway.config import Configuration
from gateway.database.describe import objects
from gateway.database.migrate import require_current
from gateway.database.pool import Database
from gateway.database.tables import configurations, spools
from gateway.database.tables import findings as finding_rows
from gateway.database.tables import processes as process_rows
from gateway.database.tables import progress as progress_rows
from gateway.database.tables import refusals as refusal_rows
from gateway.database.tables.findings import FindingRow
from gateway.database.tables.overview import Overview, overview
from gateway.database.tables.processes import ProcessRow
from gateway.database.tables.progress import Accepted, Progress
from gateway.database.tables.refusals import RefusalRow
from gateway.diagnosis import postgres, rules, spool, told
from gateway.diagnosis.bounded import HangsError, within
from gateway.diagnosis.finding import Finding, Holds, problem, ranked
from gateway.diagnosis.findings import findings, pairing
from gateway.diagnosis.limits import limits
from gateway.diagnosis.living import living, of_standing
from gateway.diagnosis.log_file import log_file
from gateway.diagnosis.open_files import open_files
from gateway.diagnosis.postgres import ServerSeen
from gateway.diagnosis.progress import progress
from gateway.diagnosis.schema import schema
from gateway.diagnosis.server_findings import SEARCH_PATH
from gateway.diagnosis.spool import Space
from gateway.diagnosis.syntaxes import declined
from gateway.diagnosis.turned_away import WINDOW, turned_away
from gateway.errors import (
    DatabaseError,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    SchemaError,
    UnknownSpoolError,
)
from gateway.processes.removed import owed_to_removed
from gateway.processes.standing import Disagreement, disagreements
from gateway.spool.identity import SpoolIdentity

READ_SECONDS = 3.0
SPOOL_SECONDS = 4.0
ALL_SECONDS = 8.0
"""The limit of a whole examination; `mini-pacs diagnose` gives less to a process that started slowly."""
LOCAL_SECONDS = 1.0
"""Time that is reserved to look for a stopped PostgreSQL on this host."""
LEAST_SECONDS = 0.5
REFUSALS = 200
"""How many peers that were turned away are read."""
_INSUFFICIENT_PRIVILEGE = "42501"


@dataclass(slots=True)
class Gathered:
    """What was read. `view` is None if the database could not be read; `findings` then says why."""

    configuration: Configuration
    space: Space | None = None
    seen: ServerSeen | None = None
    view: Overview | None = None
    unknown: str = ""
    progress: Progress = field(default_factory=Progress)
    processes: list[ProcessRow] = field(default_factory=list)
    refusals: list[RefusalRow] = field(default_factory=list)
    standing: list[Disagreement] = field(default_factory=list)
    has_version: bool = False
    """Whether a version of config.yaml was loaded; `standing` says what differs from it."""
    open: list[FindingRow] = field(default_factory=list)
    """The findings that the last examination of the sweep's processes left open."""
    accepted: list[Accepted] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0
    error: DatabaseError | None = None
    """Why there is no `view`."""
    read_seconds: float = READ_SECONDS
    """The limit of a statement that reads rows."""


def read_spool(gathered: Gathered) -> None:
    """Measure the spool. A file system that hangs is a finding."""
    root = gathered.configuration.edge.data_root
    try:
        gathered.space = within(SPOOL_SECONDS, lambda: spool.measure(gathered.configuration))
    except HangsError:
        gathered.findings.append(
            problem(
                "spool.hangs",
                f"The spool {root} does not answer within {SPOOL_SECONDS:g} s",
                "nothing can be received or forwarded",
                "look at its disk or its network mount: `dmesg`, `mount`",
                holds=Holds.ALL,
            )
        )


def read_database(
    gathered: Gathered, dsn: str, *, seconds: float = ALL_SECONDS, tries_to_write: bool = False
) -> None:
    """Ask PostgreSQL about itself, then read the rows of the edge; both end within `seconds`."""
    began = monotonic()
    look_seconds = max(seconds - LOCAL_SECONDS, LEAST_SECONDS)
    seen = gathered.seen = postgres.look(dsn, tries_to_write=tries_to_write, seconds=look_seconds)
    gathered.findings += seen.findings
    gathered.error = seen.error
    if seen.server is not None:
        try:
            left = max(seconds - (monotonic() - began), LEAST_SECONDS)
            within(min(2 * gathered.read_seconds, left), lambda: _read_rows(gathered, dsn))
        except HangsError:
            gathered.error = DatabaseUnavailableError(f"PostgreSQL ({seen.where}) does not answer in time")
            gathered.findings.append(_slow(gathered, "it does not answer in time"))
        except DatabaseError as error:
            gathered.error = error
            _add_reason(gathered, seen, error)
    gathered.seconds = monotonic() - began


def _add_reason(gathered: Gathered, seen: ServerSeen, error: DatabaseError) -> None:
    match error:
        case SchemaError():
            gathered.findings.append(
                problem(
                    "postgres.schema",
                    f"The schema of PostgreSQL ({seen.where}) is not that of this version: {error}",
                    "processes of this version do not work with it",
                    "" if "run `" in str(error) or "newer" in str(error) else "`mini-pacs db migrate`",
                    holds=Holds.ALL,
                )
            )
        case UnknownSpoolError():
            gathered.unknown = str(error)
        case DatabaseRefusedError():
            if not any(one.key == SEARCH_PATH for one in seen.findings):
                gathered.findings.append(_refused(gathered, error))
        case _:
            gathered.findings.append(_slow(gathered, str(error)))


def all_findings(gathered: Gathered, others: list[Finding]) -> list[Finding]:
    """Return what is wrong by everything that was read, ranked."""
    view, configuration = gathered.view, gathered.configuration
    if view is None:
        now = datetime.now(UTC)
        from_spool = [
            *spool.space(gathered.space),
            *spool.inodes(gathered.space),
            *spool.folders(gathered.space),
            *spool.unregistered(gathered.space, now),
            *spool.damaged(gathered.space),
        ]
        return ranked([*gathered.findings, *pairing(gathered.unknown), *from_spool, *others])
    moving = progress(view, gathered.progress, configuration)
    running = [
        *living(gathered.processes, None if gathered.has_version else configuration),
        *open_files(gathered.processes),
        *limits(gathered.processes),
        *log_file(gathered.processes, configuration),
        *map(of_standing, gathered.standing),
    ]
    silent = [worker.worker for worker in gathered.progress.workers if worker.missing]
    away = turned_away(gathered.refusals, gathered.accepted, configuration, silent)
    ruled = [
        *(declined(view) if configuration.edge.accepts_as_archives else ()),
        *rules.nowhere(view, configuration),
        *rules.undecided(view, configuration),
        *told.failing(view, configuration),
    ]
    rest = [*gathered.findings, *running, *moving, *away, *ruled, *others]
    found = findings(view, gathered.space, gathered.unknown, rest)
    opened = {row.key: row.opened_at for row in gathered.open}
    return [one if one.since else replace(one, since=opened.get(one.key)) for one in found]


def _read_rows(gathered: Gathered, dsn: str) -> None:
    database = Database(
        dsn, application_name="mini-pacs diagnose", size=1, deadline_seconds=gathered.read_seconds
    )
    configuration = gathered.configuration
    pair = SpoolIdentity(configuration.edge.data_root)
    try:
        with database.statement() as session:
            if pair.root.exists():  # else this host has no spool
                try:
                    pair.require_possible(session)
                except UnknownSpoolError as error:
                    if not spools.has_schema(session):
                        raise
                    gathered.unknown = str(error)
        require_current(database)
        lease = timedelta(seconds=configuration.forwarder.lease_seconds)
        with database.statement() as session:
            view = overview(session, lease=lease)
            gathered.progress = progress_rows.progress(session, lease=lease)
            gathered.processes = process_rows.processes(session)
            gathered.refusals = refusal_rows.page(session, WINDOW, limit=REFUSALS)
            runs = configurations.taken(session)
            gathered.has_version = runs is not None
            owed = owed_to_removed(session, configuration)
            gathered.standing = list(disagreements(configuration, runs, gathered.processes, owed))
            gathered.findings += schema(objects(session))
            gathered.open = finding_rows.open_findings(session)
            if gathered.refusals:
                gathered.accepted = progress_rows.accepted(session, WINDOW)
        gathered.view = view
    finally:
        database.close()


def without_answer(gathered: Gathered, seconds: float) -> Gathered:
    """Return what was read of PostgreSQL before `seconds` were over, with a finding that it is not all.

    It is a copy, because the thread that reads may still go on.
    """
    seen = gathered.seen
    if seen is None:
        late = problem(
            "postgres.away",
            f"PostgreSQL did not answer within {seconds:.1f} s",
            "the edge still receives; nothing is forwarded until PostgreSQL answers; nothing is lost",
            "look at PostgreSQL, its host and the network; or this host is overloaded (`uptime`): ask again",
            holds=Holds.ALL,
        )
    else:
        late = _slow(gathered, f"they were not read within {seconds:.1f} s")
    error = DatabaseUnavailableError(late.what)
    return replace(gathered, view=None, error=error, findings=[*gathered.findings, late])


def _slow(gathered: Gathered, reason: str) -> Finding:
    where = gathered.seen.where if gathered.seen else ""
    return problem(
        "postgres.slow",
        f"PostgreSQL ({where}) answers, and the tables of the edge cannot be read: {reason}",
        "the processes of the edge have to wait for it as well; nothing is lost",
        "see the other findings about PostgreSQL: a lock, a full disk or too much load",
        holds=Holds.ALL,
    )


def _refused(gathered: Gathered, error: DatabaseRefusedError) -> Finding:
    where = gathered.seen.where if gathered.seen else ""
    user = gathered.seen.server.user if gathered.seen and gathered.seen.server else "ROLE"
    if error.sqlstate == _INSUFFICIENT_PRIVILEGE:
        return problem(
            "postgres.privileges",
            f"The role {user} lacks privileges in PostgreSQL ({where}): {error}",
            "the processes that use this role cannot work",
            f"as the owner of the schema: `mini-pacs db grant {user}`",
            holds=Holds.ALL,
        )
    return problem(
        "postgres.refused",
        f"PostgreSQL ({where}) refuses to read the tables of the edge: {error}",
        "the processes of the edge cannot work",
        "`mini-pacs db migrate` brings the schema to this version",
        holds=Holds.ALL,
    )
