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
from gateway.errors import FileMissingError
from gateway.register.unregistered import backlog, refused_count
from gateway.spool.places import DAMAGED
from gateway.spool.spool import Spool
from proof.chaos.journal import HAS_IT, SUCCESS, Entry, read
from proof.chaos.ledger import Debt, Evidence, Row, Version
from proof.chaos.part10 import data_set_digest
from proof.chaos.sender import ORIGINAL
from proof.chaos.sent_instances import Number, instance
from proof.chaos.setup import Setup
from proof.chaos.worker import GAVE, TOOK

_ROWS = Query(
    "rows",
    "SELECT i.sop_instance_uid, encode(i.sha256, 'hex'), i.place::text, i.study_instance_uid, i.file_name,"
    " json_object_agg(d.route, json_build_array(d.state, d.last_error,"
    # what was excused earlier excuses nothing: it is the last worker asked that has to have stayed silent
    "   d.redispatches >= %(most)s AND 'timed_out' = ("
    "   SELECT e.state FROM expected_results e WHERE e.delivery_id = d.id ORDER BY e.id DESC LIMIT 1)))"
    " FROM instances i JOIN deliveries d ON d.instance_id = i.id GROUP BY i.id",
)
_WAITING = Query(
    "waiting",
    "SELECT (SELECT count(*) FROM deliveries WHERE state IN ('pending', 'in_flight') AND route = 'pacs'),"
    " (SELECT count(*) FROM deliveries WHERE state IN ('pending', 'in_flight') AND route = 'archives'),"
    " (SELECT count(*) FROM deliveries WHERE state IN ('pending', 'in_flight') AND route = 'workers'),"
    " (SELECT count(*) FROM expected_results WHERE state = 'owed')",
)


def waiting(database: Database) -> tuple[int, int, int, int]:
    """Count what is open now: deliveries to the PACS, the archive and workers, and results of workers.

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
    entries = (entry for path in setup.workers_journals() for entry in read(path))
    return [entry for entry in entries if entry.status in HAS_IT]


COUNT_LIMIT = 1_000_000
HANG_ENDS_SECONDS = 2.0
"""A process sees the end of a fault within a second."""
NO_SEND_MS = 1.0
"""No real C-STORE to a worker is as fast as this."""


def gather(
    setup: Setup, database: Database, versions: Mapping[int, Version], hangs: Sequence[tuple[float, float]]
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
            (entry.sop_instance_uid, entry.digest): entry.word.endswith(f":{ORIGINAL}")
            for entry in entries
            if entry.status == SUCCESS
        },
        results=_versions(entry for entry in notes if entry.word == GAVE),
        rows=tuple(_rows(setup, database)),
        taken=_versions(taken),
        worked=_versions(entry for entry in notes if entry.word == TOOK),
        not_sent=frozenset(_not_sent(setup, versions, hangs)),
        sent=tuple((entry.sop_instance_uid, entry.digest) for entry in entries),
        came=tuple((entry.sop_instance_uid, entry.digest) for entry in taken),
        archived=_versions(archived),
        came_to_archive=tuple((entry.sop_instance_uid, entry.digest) for entry in archived),
        altered=tuple(
            _altered(entries, [*taken, *archived, *(entry for entry in notes if entry.word == TOOK)])
        ),
        strays=tuple(_strays(setup)),
    )


def _versions(entries: Iterable[Entry]) -> frozenset[Version]:
    return frozenset((entry.sop_instance_uid, entry.digest) for entry in entries)


def _not_sent(
    setup: Setup, versions: Mapping[int, Version], hangs: Sequence[tuple[float, float]]
) -> Iterator[Version]:
    """Yield what the edge counts as delivered to a worker, although `worker_hang` answered instead."""
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


def _altered(entries: Iterable[Entry], taken: Iterable[Entry]) -> Iterator[Version]:
    """Yield what PACS or workers got under a sender's UID with bytes that no sender sent."""
    known = {(entry.sop_instance_uid, entry.digest) for entry in entries}
    ours = {entry.sop_instance_uid.rpartition(".")[0] for entry in entries}
    for entry in taken:
        root, _, count = entry.sop_instance_uid.rpartition(".")
        if root not in ours or (entry.sop_instance_uid, entry.digest) in known:
            continue
        seed, sender = (int(word) for word in root.split(".")[-2:])
        versions = (instance(Number(seed, sender, int(count), version)) for version in (0, 1))
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
