"""The checks of `mini-pacs diagnose`, each with a line, and the findings of all of them.

Every check runs on a thread of its own, and all begin at the same time. All of them have one deadline, so a
diagnosis ends within ten seconds, whatever is broken. A check that did not end by then is a finding.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

from gateway.config import Configuration
from gateway.diagnosis import own_port, peers, spool
from gateway.diagnosis.bounded import HangsError, RunningCheck
from gateway.diagnosis.configuration import certificates_of, configuration, log_disk
from gateway.diagnosis.counts import waiting
from gateway.diagnosis.finding import Finding, Holds, problem
from gateway.diagnosis.findings import pairing
from gateway.diagnosis.gather import (
    ALL_SECONDS,
    READ_SECONDS,
    Gathered,
    all_findings,
    read_database,
    read_spool,
    without_answer,
)
from gateway.diagnosis.own_port import OwnPort
from gateway.diagnosis.peer_answer import PeerAnswer
from gateway.diagnosis.peers import merged
from gateway.diagnosis.processes import actors
from gateway.times import since, span

OF_PROCESSES = tuple(f"configuration.{what}" for what in ("not_loaded", "other", "restart", "removed"))
MARGIN_SECONDS = 0.5
"""Peers and PostgreSQL have less time than the whole, so that each says by itself what did not answer."""
GOOD, NOTED, WRONG = "✓", "!", "✗"


@dataclass(frozen=True, slots=True)
class Check:
    """The line of a check: its mark, what was examined, and what was seen."""

    mark: str
    name: str
    text: str


Tell = Callable[[Check], None]


@dataclass(slots=True)
class Examined:
    """Everything that a diagnosis saw."""

    checks: list[Check]
    findings: list[Finding]
    gathered: Gathered
    answers: dict[str, PeerAnswer]
    seconds: float = 0.0


class _Report:
    """Collects the checks, and tells each at once."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.checks: list[Check] = []

    def say(self, name: str, text: str, found: Iterable[Finding]) -> None:
        """Tell a check: `text` if nothing is wrong, else its first finding."""
        first = sorted(found, key=lambda one: not one.problem)
        mark = GOOD if not first else WRONG if first[0].problem else NOTED
        self.checks.append(Check(mark, name, first[0].what if first else text))
        self._tell(self.checks[-1])


def examine(
    configured: Configuration,
    dsn: str,
    tell: Tell = lambda _: None,
    *,
    read_seconds: float = READ_SECONDS,
    asks_peers: bool = True,
    seconds: float = ALL_SECONDS,
) -> Examined:
    """Examine everything; call `tell` with each check as soon as it and those before it have ended.

    It ends within `seconds`; only where `read_seconds`, the limit of one statement that reads rows of the
    edge, is longer than READ_SECONDS, it waits longer for PostgreSQL. Without `asks_peers`, no association is
    opened, neither to a peer nor to the edge's own port.
    """
    began = monotonic()
    gathered = Gathered(configured, read_seconds=read_seconds)
    limit = seconds + 2 * (read_seconds - READ_SECONDS)
    report = _Report(tell)
    files = RunningCheck(seconds, lambda: [*configuration(configured), *log_disk(configured)])
    dated = RunningCheck(seconds, lambda: [*certificates_of(configured, datetime.now(UTC))])
    space = RunningCheck(seconds, lambda: read_spool(gathered))
    rows = RunningCheck(
        limit, lambda: read_database(gathered, dsn, seconds=limit - MARGIN_SECONDS, tries_to_write=True)
    )
    port = RunningCheck(seconds, lambda: own_port.ask(configured)) if asks_peers else None
    asked = peers.start(configured, seconds - MARGIN_SECONDS) if asks_peers else {}

    own = _ended(files, "configuration", "look at the disks of edge.data_root and edge.log_path: `dmesg`")
    report.say("configuration", f"{configured.source} is valid", own)
    ending = _ended(dated, "certificates", "look at the disk that holds them: `dmesg`, `mount`")
    if ending or _has_tls(configured):
        report.say("certificates", "none ends within two weeks", ending)
    own = [*own, *ending]
    if port is not None:
        own += _of_port(report, port)
    own += [] if _has_ended(space) else [_late("spool", space.seconds, "look at its disk: `dmesg`, `mount`")]
    _of_spool(report, gathered, own)
    if not _has_ended(rows):
        gathered = without_answer(gathered, rows.seconds)
    _of_database(report, gathered)
    answers = peers.answers_of(configured, asked)
    own += peers.findings_of(configured, answers, gathered.view)
    found = merged(all_findings(gathered, own), answers)
    _of_rows(report, gathered, answers, found)
    return Examined(report.checks, found, gathered, answers, monotonic() - began)


def _has_ended(running: RunningCheck[None]) -> bool:
    """Wait until it ends or its time is over; tell whether it ended."""
    try:
        running.result()
    except HangsError:
        return False
    return True


def _ended(running: RunningCheck[list[Finding]], name: str, remedy: str) -> list[Finding]:
    """Return what a check found; one that did not end in time is a finding."""
    try:
        return running.result()
    except HangsError:
        return [_late(name, running.seconds, remedy)]


def _late(name: str, seconds: float, remedy: str) -> Finding:
    return problem(
        f"{name}.not_examined",
        f"The check of the {name} did not end within {seconds:.1f} s",
        "it is not known whether that part is well; images that need it may wait",
        f"{remedy}; or this host is overloaded (`uptime`): ask again",
        holds=Holds.LATER,
    )


def _of_port(report: _Report, running: RunningCheck[OwnPort]) -> tuple[Finding, ...]:
    try:
        port = running.result()
    except HangsError:
        late = _late("port", running.seconds, "look at the processes of `mini-pacs serve`: `ps`")
        port = OwnPort(late.what, (late,))
    report.say("Storage SCP", port.text, port.findings)
    return port.findings


def _of_spool(report: _Report, gathered: Gathered, others: Iterable[Finding]) -> None:
    space = gathered.space
    now = datetime.now(UTC)
    found = [
        *(one for one in (*others, *gathered.findings) if one.key.startswith("spool.")),
        *spool.space(space),
        *spool.inodes(space),
        *spool.folders(space),
        *spool.unregistered(space, now),
        *spool.damaged(space),
    ]
    text = (
        "not on this host"
        if space is None
        else f"{space.root}: {space.free_bytes >> 20:,} MiB free, {space.unregistered:,} unregistered"
    )
    report.say("spool", text, found)


def _of_database(report: _Report, gathered: Gathered) -> None:
    seen = gathered.seen
    found = [one for one in gathered.findings if one.key.startswith("postgres.")]
    text = "no answer"
    if seen is not None and seen.server is not None:
        state = seen.server
        text = (
            f"{seen.where}: {state.connections} of {state.max_connections} connections, {span(seen.seconds)}"
        )
    report.say("PostgreSQL", text, [*found, *pairing(gathered.unknown)])
    if seen is not None and seen.clock_offset is not None:
        clock = [one for one in gathered.findings if one.key.startswith("clock.")]
        report.say("clocks", f"that of PostgreSQL differs by {span(abs(seen.clock_offset))}", clock)


def _of_rows(
    report: _Report, gathered: Gathered, answers: Mapping[str, PeerAnswer], found: list[Finding]
) -> None:
    """Tell the checks that need the rows of the edge, and each peer."""
    view = gathered.view

    def with_key(*beginnings: str) -> list[Finding]:
        return [one for one in found if one.key.startswith(beginnings)]

    if view is not None:
        queues = actors(view)
        text = f"Storage SCP connected; actor processes by queue: {queues}"
        report.say("processes", text, with_key("processes.", "process.", *OF_PROCESSES))
        last = max((run.ran_at for run in view.sweeps), default=None)
        text = "never ran" if last is None else f"ran {since(last, view.now)} ago"
        report.say("sweep", text, with_key("sweep."))
        text = ", ".join(f"{waiting(view, route)} wait for {route.value}" for route in view.routes)
        report.say(
            "deliveries",
            text,
            with_key("files.", "deliveries.", "messages.", "progress.", "fault:", "rules."),
        )
        report.say(
            "senders",
            f"{view.received_last_minute:,} instances in the last minute",
            with_key("refused.", "instances."),
        )
        if gathered.configuration.notify is not None:
            report.say("notify", "no endpoint refused the last message", with_key("notify."))
        report.say("results", f"{view.results.owed:,} are expected", with_key("results.", "worker."))
    for title, answer in answers.items():
        address = gathered.configuration.destination(title)
        text = f"{address.host}:{address.port} answers {answer.reached}{_last_store(gathered, title)}"
        report.say(title, text, [one for one in found if one.key.endswith(f":{title}")])


def _last_store(gathered: Gathered, title: str) -> str:
    view = gathered.view
    last = next((one.last_at for one in view.answers if one.ae_title == title), None) if view else None
    return f"; it took an instance {since(last, view.now)} ago" if view and last else ""


def _has_tls(configured: Configuration) -> bool:
    own = configured.edge.tls is not None or configured.console.tls is not None
    return own or any(one.tls is not None for one in configured.destinations)
