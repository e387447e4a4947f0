"""The processes by their heartbeats: frozen, with another configuration, another spool, a wrong clock."""

from collections.abc import Iterator, Sequence

from gateway.config import Configuration
from gateway.database.tables.processes import ProcessKind, ProcessRow
from gateway.diagnosis.finding import Finding, Holds, note, problem
from gateway.domain.pairing import parted
from gateway.processes.standing import Disagreement
from gateway.times import span

CLOCK_MS = 2000.0
"""NTP keeps hosts within milliseconds; deadlines of results are seconds."""

_HOLDS = {
    ProcessKind.SERVE: Holds.ALL,
    ProcessKind.RECEIVER: Holds.RECEPTION,
    ProcessKind.ACTORS: Holds.PACS,
    ProcessKind.SCHEDULER: Holds.LATER,
}
_MEANS = {
    ProcessKind.SERVE: "no receiver is started again, and none is stopped",
    ProcessKind.RECEIVER: "senders that reach it wait; what it has received is registered by others",
    ProcessKind.ACTORS: "what it has claimed waits until its lease ends, and it takes nothing else",
    ProcessKind.SCHEDULER: "the sweep does not run",
}
_RESTART = {
    ProcessKind.SERVE: "`mini-pacs serve`",
    ProcessKind.RECEIVER: "`mini-pacs serve`",
    ProcessKind.ACTORS: "its actors (`dramatiq actors`)",
    ProcessKind.SCHEDULER: "the scheduler (`periodiq actors`)",
}


def of_standing(one: Disagreement) -> Finding:
    """Return the finding for what differs between config.yaml, the version that runs, and a process."""
    make = problem if one.problem else note
    return make(one.key, one.what, one.means, one.remedy, holds=Holds.LATER)


def living(rows: Sequence[ProcessRow], configuration: Configuration | None) -> Iterator[Finding]:
    """Yield what is wrong with each process that runs.

    `configuration` is what they should use; None where gateway/processes/standing.py compares it.
    """
    for row in rows:
        if row.is_frozen:
            yield _frozen(row)
    beating = [row for row in rows if row.beats]
    for row in beating:
        yield from _spool(row)
        yield from _clock(row)
    yield from _spools(beating)
    if configuration is not None:
        yield from _configurations(beating, configuration)
    yield from _addresses(beating)
    yield from _versions(beating)


def _key(kind: str, row: ProcessRow) -> str:
    return f"process.{kind}:{row.host}:{row.pid}"


def _frozen(row: ProcessRow) -> Finding:
    return problem(
        _key("frozen", row),
        f"{row.name} is frozen: it holds its connection, and was silent for {span(row.silent_seconds)}",
        _MEANS[row.kind],
        f"on {row.host}: `kill -CONT {row.pid}` if `ps` shows state T; else end it (`kill -KILL {row.pid}`): "
        "other processes take over its work",
        since=row.beat_at,
        holds=_HOLDS[row.kind],
    )


def _spool(row: ProcessRow) -> Iterator[Finding]:
    what, advice = parted(row.spool_problem or "")
    if advice:
        yield problem(
            _key("spool", row),
            f"{row.name} waits at its start, because it has another spool than this database: {what}",
            "it receives nothing, or forwards nothing; other processes continue",
            f"{advice[0].lower()}{advice[1:]}; or restart {_RESTART[row.kind]} with the edge.data_root of "
            "`mini-pacs serve` (MINI_PACS_CONFIG)",
            holds=_HOLDS[row.kind],
        )
    elif row.spool_problem is not None:
        yield problem(
            _key("spool", row),
            f"{row.name} cannot write the spool as user {row.os_user}: {row.spool_problem}",
            "it receives nothing, or forwards nothing",
            "mount the spool there; make a folder that is gone (`mkdir`); or give it to that user (`ls -ld`, "
            "`chown`)",
            holds=Holds.ALL,
        )


def _clock(row: ProcessRow) -> Iterator[Finding]:
    offset = row.clock_offset_ms
    if offset is not None and abs(offset) > CLOCK_MS:
        side = "ahead of" if offset > 0 else "behind"
        yield problem(
            _key("clock", row),
            f"The clock of {row.name} is {span(abs(offset) / 1000)} {side} that of PostgreSQL",
            "deadlines of results and times of reception are wrong by this time",
            f"let {row.host} and PostgreSQL use the same NTP server (`chronyc tracking`, `timedatectl`)",
            holds=Holds.LATER,
        )


def _spools(rows: Sequence[ProcessRow]) -> Iterator[Finding]:
    """Compare the spool of each process with that of the receivers."""
    first = next((row for row in rows if row.kind is ProcessKind.RECEIVER and row.spool_name), None)
    if first is None:
        return
    for row in rows:
        if row.spool_name is not None and row.spool_name != first.spool_name:
            yield problem(
                _key("other_spool", row),
                f"{row.name} uses another spool ({row.spool_name}) than {first.name} ({first.spool_name})",
                "it does not find the files of what was received",
                f"restart {_RESTART[row.kind]} with the edge.data_root of `mini-pacs serve`",
                holds=Holds.ALL,
            )


def _configurations(rows: Sequence[ProcessRow], configuration: Configuration) -> Iterator[Finding]:
    """Compare the configuration of each process with the file."""
    others = [
        row
        for row in rows
        if row.configuration_digest is not None and row.configuration_digest != configuration.digest
    ]
    used = {row.configuration_digest for row in rows if row.configuration_digest is not None}
    if others and len(used) == 1:
        yield problem(
            "configuration.not_loaded",
            f"{configuration.source} is not the configuration that the {len(others)} running processes use",
            "a change in the file has no effect yet",
            "restart the processes, or take the change back; `mini-pacs config check` checks it",
            holds=Holds.LATER,
        )
        return
    for row in others:
        yield problem(
            _key("configuration", row),
            f"{row.name} uses another configuration than {configuration.source}",
            "it receives or forwards by other rules than the other processes",
            f"restart {_RESTART[row.kind]} with that file (MINI_PACS_CONFIG)",
            holds=_HOLDS[row.kind],
        )


def _addresses(rows: Sequence[ProcessRow]) -> Iterator[Finding]:
    """Yield a finding if Storage SCPs with other AE titles or ports work on the same spool and database."""
    parents = [row for row in rows if row.kind is ProcessKind.SERVE]
    if len({row.serves for row in parents}) > 1:
        named = " and ".join(row.name for row in sorted(parents, key=lambda row: row.started_at))
        newest = max(parents, key=lambda row: row.started_at)
        yield problem(
            "processes.serve",
            f"Two configurations of the edge run at the same time: {named}",
            "each restart makes its configuration the one that counts, for all processes",
            f"end the one that nobody needs (the newest: on {newest.host}, `kill {newest.pid}`), then "
            "`mini-pacs config reload`",
            holds=Holds.LATER,
        )


def _versions(rows: Sequence[ProcessRow]) -> Iterator[Finding]:
    versions = sorted({row.version for row in rows})
    if len(versions) > 1:
        by_version = "; ".join(
            f"{version}: {', '.join(row.name for row in rows if row.version == version)}"
            for version in versions
        )
        yield note(
            "processes.versions",
            f"Processes of several versions run: {by_version}",
            "",
            "end the upgrade: restart those of the old version (docs/operate/upgrade.md)",
            holds=Holds.LATER,
        )
