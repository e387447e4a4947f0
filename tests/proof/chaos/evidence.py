"""The evidence after the run: journals of senders, PACS and workers, rows, files.

This module only reads. The sweep must not run meanwhile, or files and rows would be read at different
times.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from gateway.database.pool import Database
from gateway.database.queries import Query
from gateway.domain.instance import Place
from gateway.domain.routing import Route, Target
from gateway.errors import FileMissingError
from gateway.register.unregistered import backlog, refused_count
from gateway.spool.places import DAMAGED
from gateway.spool.spool import Spool
from proof.chaos.journal import HAS_IT, SUCCESS, Entry, read
from proof.chaos.ledger import WORKERS, Debt, Evidence, Row, Version
from proof.chaos.part10 import data_set_digest
from proof.chaos.sender import ORIGINAL
from proof.chaos.sent_instances import Number, instance
from proof.chaos.setup import Setup
from proof.chaos.unit_ledger import HANG_ENDS_SECONDS, Dispatch, SeenUnit
from proof.chaos.worker import GAVE, TOOK

_ROWS = Query(
    "rows",
    "SELECT i.sop_instance_uid, encode(i.sha256, 'hex'), i.place::text, i.study_instance_uid, i.file_name,"
    " coalesce(json_object_agg("
    "  CASE d.route WHEN 'workers' THEN queue_of(d.route, d.target) ELSE d.route::text END,"
    "  json_build_array(d.state, d.last_error,"
    # only the last worker that was asked counts: it must have stayed silent
    "   d.redispatches >= %(most)s AND 'timed_out' = ("
    "    SELECT e.state FROM expected_results e WHERE e.delivery_id = d.id ORDER BY e.id DESC LIMIT 1)"
    "   OR EXISTS (SELECT FROM units u WHERE u.id = d.unit_id AND u.state = 'timed_out')))"
    "  FILTER (WHERE d.id IS NOT NULL), '{}')"
    " FROM instances i LEFT JOIN deliveries d ON d.instance_id = i.id GROUP BY i.id",
)
_WAITING = Query(
    "waiting",
    "SELECT count(*) FILTER (WHERE route = 'pacs'), count(*) FILTER (WHERE route = 'archives'),"
    " count(*) FILTER (WHERE route = 'workers'),"
    " (SELECT count(*) FROM expected_results WHERE state = 'owed')"
    "  + (SELECT count(*) FROM units WHERE state IN ('collecting', 'complete', 'sending', 'sent'))"
    " FROM deliveries WHERE state IN ('collecting', 'pending', 'in_flight')",
)
_UNITS = Query(
    "units",
    "SELECT u.id, u.application, u.state::text,"
    " coalesce((SELECT json_agg(json_build_array(i.sop_instance_uid, encode(i.sha256, 'hex')))"
    "  FROM deliveries d JOIN instances i ON i.id = d.instance_id"
    "  WHERE d.unit_id = u.id AND d.state = 'delivered' AND d.destination = u.worker), '[]'),"
    " coalesce((SELECT json_agg(json_build_array(p.worker, extract(epoch FROM p.began_at)::float8,"
    "  extract(epoch FROM p.ended_at)::float8, p.outcome) ORDER BY p.id)"
    "  FROM unit_dispatches p WHERE p.unit_id = u.id), '[]')"
    " FROM units u WHERE u.settled_at IS NULL OR u.settled_at > now() - interval '40 seconds'"
    "  OR u.id = ANY (%(asked)s::bigint[])",
)


def units(database: Database, asked: Sequence[int]) -> list[SeenUnit]:
    """Return the units that are not settled, those that were settled lately, and those of `asked`.

    Raises:
        DatabaseError: PostgreSQL does not answer.
    """
    with database.statement() as session:
        found = session.all(_UNITS, asked=list(asked))
    return [
        SeenUnit(
            number,
            application,
            state,
            frozenset((uid, digest) for uid, digest in members),
            tuple(Dispatch(*one) for one in dispatches),
        )
        for number, application, state, members, dispatches in found
    ]


def waiting(database: Database) -> tuple[int, int, int, int]:
    """Count what is open now: deliveries to the PACS, the archive and workers; results owed, and units.

    Raises:
        DatabaseError: PostgreSQL does not answer.
    """
    with database.statement() as session:
        row = session.one(_WAITING)
    assert row is not None
    return row[0], row[1], row[2], row[3]


def unregistered(setup: Setup) -> int:
    """Count the receptions that are acknowledged and have no rows yet, up to a limit."""
    return backlog(Spool(setup.disk.root), COUNT_LIMIT).count


def sent(setup: Setup) -> list[Entry]:
    """Return every answer that a sender got, oldest first."""
    return sorted((entry for path in setup.journals() for entry in read(path)), key=lambda entry: entry.at)


def worked(setup: Setup) -> list[Entry]:
    """Return what the workers accepted, and the edge's Success for their results."""
    return [entry for entries in worked_by(setup).values() for entry in entries]


def worked_by(setup: Setup) -> dict[str, list[Entry]]:
    """Return the same by the AE title of the worker."""
    return {
        worker: [entry for entry in read(path) if entry.status in HAS_IT]
        for worker, path in setup.workers_journals().items()
    }


def took_by(setup: Setup) -> dict[str, list[Entry]]:
    """Return what each worker accepted, by its AE title."""
    return {
        worker: [entry for entry in entries if entry.word == TOOK]
        for worker, entries in worked_by(setup).items()
    }


def _by_route(setup: Setup) -> dict[str, frozenset[Version]]:
    """Return what the workers of each application accepted, by the route of the application."""
    took = took_by(setup)
    forwarder = setup.lab.configuration.forwarder
    return {
        Target(Route.WORKERS, name).queue: _versions(
            entry for worker in application.workers for entry in took[worker.ae_title]
        )
        for name, application in forwarder.applications_in_force.items()
    }


COUNT_LIMIT = 1_000_000
_APPLICATIONS = {ORIGINAL: (WORKERS,), "CT": ("workers.chest-ct",), "MR": ("workers.any-mr",)}
"""On which routes of applications an instance is owed, by its kind in the journal of its sender."""
_NOWHERE = "MG"
NO_SEND_MS = 1.0
"""No real C-STORE to a worker is as fast as this."""


def gather(
    setup: Setup,
    database: Database,
    versions: Mapping[int, Version],
    hangs: Sequence[tuple[float, float]],
    *,
    not_sent_in_unit: Iterable[Version] = (),
) -> Evidence:
    """Return the evidence as it is now.

    `versions` are the versions by row id, `hangs` the times in which workers hung.
    """
    entries = sent(setup)
    notes = worked(setup)
    taken = [entry for entry in read(setup.pacs.journal) if entry.status in HAS_IT]
    archived = [entry for entry in read(setup.archive.journal) if entry.status in HAS_IT]
    return Evidence(
        acknowledged={
            (entry.sop_instance_uid, entry.digest): _APPLICATIONS.get(_kind(entry), ())
            for entry in entries
            if entry.status == SUCCESS
        },
        results=_versions(entry for entry in notes if entry.word == GAVE),
        rows=tuple(_rows(setup, database)),
        taken=_versions(taken),
        worked=_by_route(setup),
        nowhere=_versions(entry for entry in entries if _kind(entry) == _NOWHERE),
        not_sent_in_unit=frozenset(not_sent_in_unit),
        not_sent=frozenset(_not_sent(setup, versions, hangs)),
        sent=tuple((entry.sop_instance_uid, entry.digest) for entry in entries),
        came=tuple((entry.sop_instance_uid, entry.digest) for entry in taken),
        archived=_versions(archived),
        came_to_archive=tuple((entry.sop_instance_uid, entry.digest) for entry in archived),
        altered=tuple(
            _altered(setup, entries, [*taken, *archived, *(entry for entry in notes if entry.word == TOOK)])
        ),
        strays=tuple(_strays(setup)),
    )


def _kind(entry: Entry) -> str:
    return entry.word.partition(":")[2]


def _versions(entries: Iterable[Entry]) -> frozenset[Version]:
    return frozenset((entry.sop_instance_uid, entry.digest) for entry in entries)


def _not_sent(
    setup: Setup, versions: Mapping[int, Version], hangs: Sequence[tuple[float, float]]
) -> Iterator[Version]:
    """Yield deliveries that count as delivered to a worker, although `worker_hang` answered instead."""
    for path in (setup.lab.folder / "logs").glob("edge.log*"):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if '"stage":"forward_worker","outcome":"delivered"' not in line:
                    continue
                fields = json.loads(line)
                at = datetime.fromisoformat(fields["time"]).timestamp()
                known = fields.get("instance_id") in versions and fields["duration_ms"] < NO_SEND_MS
                if known and any(began <= at <= ended + HANG_ENDS_SECONDS for began, ended in hangs):
                    yield versions[fields["instance_id"]]


def _rows(setup: Setup, database: Database) -> Iterator[Row]:
    spool = Spool(setup.disk.root)
    with database.statement() as session:
        found = session.all(_ROWS, most=setup.lab.configuration.forwarder.max_redispatch)
    for uid, digest, place, study, file_name, debts in found:
        try:
            path = spool.find(Place(place), study, file_name)
        except FileMissingError:
            intact = False
        else:
            intact = _digest(path) == digest
        yield Row((uid, digest), {route: Debt(*debt) for route, debt in debts.items()}, intact)


def _digest(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return data_set_digest(descriptor)
    finally:
        os.close(descriptor)


def _altered(setup: Setup, entries: Iterable[Entry], taken: Iterable[Entry]) -> Iterator[Version]:
    """Yield what PACS or workers got under a sender's UID with bytes that no sender sent."""
    known = {(entry.sop_instance_uid, entry.digest) for entry in entries}
    ours = {entry.sop_instance_uid.rpartition(".")[0] for entry in entries}
    for entry in taken:
        root, _, count = entry.sop_instance_uid.rpartition(".")
        if root not in ours or (entry.sop_instance_uid, entry.digest) in known:
            continue
        seed, sender = (int(word) for word in root.split(".")[-2:])
        versions = (instance(Number(seed, sender, int(count), one, setup.is_hospital)) for one in (0, 1))
        if entry.digest not in {version.digest for version in versions}:
            yield entry.sop_instance_uid, entry.digest


def _strays(setup: Setup) -> Iterator[str]:
    """Return the files of instances outside the spool; a worker application keeps its own in TMPDIR.

    Return files of the spool, too, that no run may leave: damaged ones, and receptions without rows.
    """
    yield from (str(path) for path in (setup.disk.root / DAMAGED).rglob("*.dcm"))
    for what, count in (
        ("unregistered", unregistered(setup)),
        ("refused by PostgreSQL", refused_count(Spool(setup.disk.root))),
    ):
        if count:
            yield f"{count} receptions {what}"
    for path in setup.folder.rglob("*.dcm*"):
        if setup.disk.root not in path.parents and setup.lab.folder / "tmp" not in path.parents:
            yield str(path.relative_to(setup.folder))
