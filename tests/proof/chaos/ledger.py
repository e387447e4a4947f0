"""The ledger: every instance for which a sender got Success, compared with the evidence.

No I/O. Each delivery of such an instance is exactly one of delivered, pending, in flight, dead, cancelled,
given up, taken as sent, or missing; the ledger closes if none is missing. Delivered means that the PACS, or
a worker, answered for these bytes, by the digest on the wire; the state in the database does not count. A
peer that got two versions of one UID must have answered for both; both count.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

PACS, ARCHIVES, WORKERS = "pacs", "archives", "workers"
"""The routes. That of an application of its own is `workers.NAME`."""
MISSING = "missing"
OLDER = "older version"
"""The peer ends with an older version, although a newer one was acknowledged later and is not in flight."""
GIVEN_UP = "given up"
"""To a worker: all allowed workers were asked, the last did not answer either, and the database says so."""
UNWANTED = "unwanted"
"""A peer has it, although the rules do not send it there."""
NOT_SENT = "taken as sent"
"""To a worker: the product's own fault answered without a send.

The worker has another version of that UID. Its result counted for both versions, since a result names its
source by the UID alone.
"""
WAITING = frozenset({"collecting", "pending", "in_flight"})
KEPT = WAITING | {"dead", "cancelled"}
"""States in which the spool must still hold the file."""

Version = tuple[str, str]
"""SOP Instance UID and digest of the data set."""


@dataclass(frozen=True, slots=True)
class Debt:
    """One delivery as the database has it."""

    state: str
    reason: str | None = None
    given_up: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One instance as database and spool have it; `file` tells whether its bytes are there, unchanged."""

    version: Version
    debts: Mapping[str, Debt]
    file: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence of all sources after the run."""

    acknowledged: Mapping[Version, tuple[str, ...]]
    """By senders' journals: what was answered Success, and on which routes of applications it is owed."""
    results: frozenset[Version]
    """By workers' journals: the results that the edge answered with Success."""
    rows: tuple[Row, ...]
    taken: frozenset[Version]
    """By the PACS's journal: what it answered for."""
    worked: Mapping[str, frozenset[Version]]
    """By workers' journals: what one of them accepted, by the route of its application."""
    nowhere: frozenset[Version] = frozenset()
    """What the rules send to no archive and to no application."""
    not_sent: frozenset[Version] = frozenset()
    """By the edge's log: counted as sent to a worker, although `worker_hang` answered without a send."""
    not_sent_in_unit: frozenset[Version] = frozenset()
    """The same, of a series or study: the result of another instance of it answered for it."""
    sent: tuple[Version, ...] = ()
    """What senders sent, whatever the answer, oldest first."""
    came: tuple[Version, ...] = ()
    """What the PACS answered for, oldest first."""
    archived: frozenset[Version] | None = None
    """By the journal of the archive beside the PACS: what it answered for. None: there is no such archive."""
    came_to_archive: tuple[Version, ...] = ()
    """What that archive answered for, oldest first."""
    altered: tuple[Version, ...] = ()
    """What came to the PACS or to a worker, although no sender sent these bytes under that UID."""
    strays: tuple[str, ...] = ()
    """Files outside of the spool."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """A delivery that is not delivered, with the reason, or an instance that should not be there."""

    what: str
    sop_instance_uid: str
    digest: str
    route: str
    reason: str


@dataclass(slots=True)
class Ledger:
    """Counts by route and state, and every deviation by UID."""

    instances: int = 0
    results: int = 0
    states: dict[str, Counter[str]] = field(default_factory=dict)
    deviations: list[Deviation] = field(default_factory=list)

    def count(self, route: str) -> int:
        """Return how many deliveries that route has."""
        return sum(self.states.get(route, Counter()).values())

    def missing(self) -> int:
        """Return how many deliveries are missing."""
        return sum(states[MISSING] for states in self.states.values())

    @property
    def closes(self) -> bool:
        """Tell whether nothing is missing, altered or astray, and no peer ends with an older version."""
        return not any(d.what in {MISSING, OLDER, "altered", "stray", UNWANTED} for d in self.deviations)


def draw(evidence: Evidence) -> Ledger:
    """Return the ledger of everything acknowledged, to senders and to workers."""
    ledger = Ledger(len(evidence.acknowledged), len(evidence.results))
    rows = {row.version: row for row in evidence.rows}
    peers = _Peers(evidence)
    archives = (PACS,) if evidence.archived is None else (PACS, ARCHIVES)
    for version in evidence.acknowledged:
        _enter_acknowledged(ledger, evidence, version, rows.get(version), peers)
    for version in evidence.results:
        for route in archives:
            _enter(ledger, version, f"{route} (results)", rows.get(version), peers)
    known = evidence.acknowledged.keys() | evidence.results
    for row in evidence.rows:
        if row.version not in known:
            # kept, though its sender got no Success: its deliveries must be correct as well
            for route in row.debts:
                _enter(ledger, row.version, f"{route} (unheard)", row, peers)
    ledger.deviations += _older(evidence, rows, PACS, evidence.came, evidence.taken)
    if evidence.archived is not None:
        ledger.deviations += _older(evidence, rows, ARCHIVES, evidence.came_to_archive, evidence.archived)
    ledger.deviations += _unwanted("altered", evidence.altered)
    ledger.deviations += _unwanted("stray", ((path, "") for path in evidence.strays))
    return ledger


def _enter_acknowledged(
    ledger: Ledger, evidence: Evidence, version: Version, row: Row | None, peers: "_Peers"
) -> None:
    archives = (PACS,) if evidence.archived is None else (PACS, ARCHIVES)
    routes = () if version in evidence.nowhere else (*archives, *evidence.acknowledged[version])
    for route in routes:
        _enter(ledger, version, route, row, peers)
    if not routes:
        ledger.states.setdefault("nowhere", Counter())["purged" if row is None else "kept"] += 1
    for route, have in peers.have.items():
        if route not in routes and version in have:
            ledger.deviations.append(Deviation(UNWANTED, version[0], version[1], route, "by no rule"))


class _Peers:
    """The answers of PACS and workers."""

    def __init__(self, evidence: Evidence) -> None:
        self.have = {
            PACS: evidence.taken,
            ARCHIVES: evidence.archived or frozenset(),
            **evidence.worked,
        }
        worked_uids = {uid for versions in evidence.worked.values() for uid, _ in versions}
        excused = frozenset(version for version in evidence.not_sent if version[0] in worked_uids)
        self.excuse = dict.fromkeys(evidence.worked, excused | evidence.not_sent_in_unit)


def _enter(ledger: Ledger, version: Version, route: str, row: Row | None, peers: _Peers) -> None:
    way = route.partition(" ")[0]
    state, reason = _state(row, way, has_it=version in peers.have.get(way, ()))
    if state == MISSING and version in peers.excuse.get(way, ()) and _is_over(row, way):
        state, reason = NOT_SENT, "the result of another version answered for it"
    ledger.states.setdefault(route, Counter())[state] += 1
    if state != "delivered":
        ledger.deviations.append(Deviation(state, version[0], version[1], route, reason))


def _is_over(row: Row | None, route: str) -> bool:
    """Tell whether the database says that a worker had it: it is purged, or delivered."""
    return row is None or (route in row.debts and row.debts[route].state == "delivered")


def _state(row: Row | None, route: str, *, has_it: bool) -> tuple[str, str]:
    if row is None:
        # purged, or never kept: only its destination can show which
        return ("delivered", "") if has_it else (MISSING, "no row, and nobody has it")
    debt = row.debts.get(route)
    if debt is None:
        return MISSING, "its row owes nothing on that route"
    if debt.state in KEPT:
        return (
            (debt.state, debt.reason or "") if row.file else (MISSING, f"{debt.state}, and its file is gone")
        )
    if has_it:
        return debt.state, ""
    if debt.given_up:
        return GIVEN_UP, debt.reason or "no result came"
    return MISSING, "the row says delivered, the peer never had it"


def _older(
    evidence: Evidence,
    rows: Mapping[Version, Row],
    route: str,
    came: Sequence[Version],
    taken: frozenset[Version],
) -> Iterator[Deviation]:
    """Yield the UIDs of which an archive, the PACS or the other one, took an older version last.

    One version is newer than another if it was first sent after the other was last sent. A version that
    still waits, or is dead or cancelled, is found by its row.
    """
    first: dict[Version, int] = {}
    last: dict[Version, int] = {}
    for at, version in enumerate(evidence.sent):
        first.setdefault(version, at)
        last[version] = at
    ends = {uid: (uid, digest) for uid, digest in came}
    for version in evidence.acknowledged:
        kept = ends.get(version[0], version)
        debt = rows[version].debts.get(route) if version in rows else None
        settled = debt is None or debt.state not in KEPT
        if settled and kept in last and first.get(version, -1) > last[kept] and version in taken:
            yield Deviation(OLDER, kept[0], kept[1], route, f"version {version[1]} was sent later")


def _unwanted(what: str, found: Iterable[Version]) -> list[Deviation]:
    return [Deviation(what, uid, digest, "", "") for uid, digest in found]
