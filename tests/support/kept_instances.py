"""Write many instances by SQL, with their files: those that a gateway keeps after a busy day, or still owes.

Half of them are originals, half results of a worker. Each has its deliveries, attempts and links as the
product would write them. The files are empty: the sweep and the commands examine names and times only.
"""

import hashlib
import os
from pathlib import Path

from gateway.domain.instance import Place
from support.edge_setup import EdgeSetup

STUDIES = 5_000
ROOT = "1.2.826.0.1.3680043.10.1338"

_FILL = """
SET session_replication_role TO replica;  -- no foreign keys, no triggers: the rows agree
SET synchronous_commit TO off;
INSERT INTO instances (sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid,
    transfer_syntax_uid, sha256, data_set_size, calling_ae_title, called_ae_title, remote_address, kind,
    correlation, place, file_name, received_at)
SELECT '{root}.' || study || '.' || n, '{root}.' || study, '{root}.' || study || '.0.' || kind,
    '1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.1.2.1', sha256(convert_to(n::text, 'UTF8')), 525000,
    CASE WHEN is_result THEN 'APP01' ELSE 'CT1' END, 'MINI_EDGE', '10.1.2.3',
    (CASE WHEN is_result THEN 'result' ELSE 'original' END)::instance_kind,
    CASE WHEN is_result THEN 'references'::correlation END, 'sent',
    '{root}.' || study || '.' || n || '.dcm', now() - interval '20 h' * (1 - n / {count}.0)
FROM (SELECT n, (n - 1) / {each} AS study, n % 2 = 0 AS is_result, n % 2 AS kind
      FROM generate_series(1, {count}) AS n) AS new;
INSERT INTO deliveries (instance_id, route, target, state, priority, owed_since, attempts, next_attempt_at,
    destination, last_status, settled_at)
SELECT i.id, r.route, CASE r.route WHEN 'pacs' THEN 'ORTHANC' ELSE 'default' END, 'delivered', 4,
    i.received_at, 1, NULL,
    CASE r.route WHEN 'pacs' THEN 'ORTHANC' ELSE 'APP01' END, 0, i.received_at + interval '1 s'
FROM instances i CROSS JOIN (VALUES ('pacs'::route), ('workers'::route)) AS r (route)
WHERE r.route = 'pacs' OR i.kind = 'original' ORDER BY i.id, r.route;
INSERT INTO attempts (delivery_id, claim_id, ended_at, duration_ms, destination, outcome, status)
SELECT d.id, gen_random_uuid(), d.settled_at, 12, d.destination, 'delivered', 0
FROM deliveries d ORDER BY d.id;
INSERT INTO expected_results (delivery_id, instance_id, worker, claim_id, state, asked_at, due_at, arrived_at,
    result_instance_id)
SELECT d.id, d.instance_id, 'APP01', gen_random_uuid(), 'arrived', d.settled_at, d.settled_at, d.settled_at,
    d.instance_id + 1
FROM deliveries d WHERE d.route = 'workers' ORDER BY d.id;
INSERT INTO result_sources (result_instance_id, source_instance_id, worker)
SELECT d.instance_id + 1, d.instance_id, 'APP01' FROM deliveries d WHERE d.route = 'workers' ORDER BY d.id;
"""

_OWE = """
SET session_replication_role TO replica;  -- no foreign keys, no triggers: the rows agree
SET synchronous_commit TO off;
INSERT INTO instances (sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid,
    transfer_syntax_uid, sha256, data_set_size, calling_ae_title, called_ae_title, remote_address, kind,
    file_name)
SELECT '{root}.' || n / 1000 || '.' || n, '{root}.' || n / 1000, '{root}.' || n / 1000 || '.0',
    '1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.1.2.1', decode('{digest}', 'hex'), {size}, 'CT1', 'MINI_EDGE',
    '10.1.2.3', 'original', '{root}.' || n / 1000 || '.' || n || '.dcm'
FROM generate_series(0, {count} - 1) AS n;
INSERT INTO deliveries (id, instance_id, route, target, priority, message_id) OVERRIDING SYSTEM VALUE
SELECT new.id, new.instance_id, 'pacs', 'ORTHANC', 4,
    dramatiq.send('pacs', 'forward_to_pacs', jsonb_build_array(new.id), 4, new.due, new.id)
FROM (SELECT nextval('deliveries_id_seq') AS id, i.id AS instance_id,
          now() + i.id * interval '1 microsecond' AS due
      FROM (SELECT id FROM instances ORDER BY id) AS i) AS new;
"""
LINKS = 50_000
"""How many names one file gets; ext4 allows 65,000."""


def owe(edge: EdgeSetup, count: int, data_set: bytes, part10: bytes) -> None:
    """Write that many instances that are owed to the PACS: rows, messages, and files with these bytes."""
    edge.database.close()
    edge.database.deadline_seconds = 1800
    with edge.database.statement() as session:
        session.script(
            _OWE.format(
                root=ROOT, count=count, digest=hashlib.sha256(data_set).hexdigest(), size=len(data_set)
            )
        )
    edge.database.close()  # its connection has the settings above
    with edge.database.statement() as session:
        session.script("VACUUM ANALYZE")
    with edge.database.statement() as session:
        session.script("CHECKPOINT")
    incoming = edge.configuration.edge.data_root / Place.INCOMING
    first = incoming
    for number in range(count):
        folder = incoming / study(number // 1000)
        if number % 1000 == 0:
            folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{study(number // 1000)}.{number}.dcm"
        if number % LINKS == 0:
            first = path
            path.write_bytes(part10)
        else:
            path.hardlink_to(first)


_FILL_WAITING = """
SET session_replication_role TO replica;
SET synchronous_commit TO off;
INSERT INTO instances (sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid,
    transfer_syntax_uid, sha256, data_set_size, calling_ae_title, called_ae_title, remote_address, kind,
    place, file_name)
SELECT '{root}.1.' || n, '{root}.1.' || n / 200, '{root}.1.' || n / 200 || '.0', '1.2.840.10008.5.1.4.1.1.2',
    '1.2.840.10008.1.2.1', sha256(convert_to(n::text, 'UTF8')), 525000, 'CT1', 'MINI_EDGE', '10.1.2.3',
    'original', 'incoming', '{root}.1.' || n || '.dcm'
FROM generate_series(1, {count}) AS n;
INSERT INTO deliveries (instance_id, route, target, priority, message_id)
SELECT i.id, 'archives', '{archive}', 4, gen_random_uuid() FROM instances i
WHERE i.sop_instance_uid LIKE '{root}.1.%' ORDER BY i.id;
INSERT INTO dramatiq.queue (message_id, queue_name, message, priority, delivery_id)
SELECT d.message_id, 'archives.{archive}', jsonb_build_object('queue_name', 'archives.{archive}',
    'actor_name', 'forward_to_archive', 'args', jsonb_build_array(d.id), 'kwargs', '{{}}'::jsonb,
    'options', '{{}}'::jsonb, 'message_id', d.message_id, 'message_timestamp', 1767225600000), 4, d.id
FROM deliveries d JOIN instances i ON i.id = d.instance_id
WHERE d.target = '{archive}' AND i.sop_instance_uid LIKE '{root}.1.%' ORDER BY d.id;
"""


def study(number: int) -> str:
    """Return the UID of a study, by its number from 0."""
    return f"{ROOT}.{number}"


def fill_waiting(edge: EdgeSetup, count: int, archive: str) -> None:
    """Write rows and messages of that many instances that wait for one archive; they have no files."""
    _run_script(edge, _FILL_WAITING.format(root=ROOT, count=count, archive=archive))


def fill(edge: EdgeSetup, count: int, studies: int = STUDIES) -> None:
    """Write rows and files of that many delivered instances, received over the last 20 hours."""
    _run_script(edge, _FILL.format(root=ROOT, count=count, each=count // studies))
    sent = edge.configuration.edge.data_root / Place.SENT
    each = count // studies
    for number in range(studies):
        folder = sent / study(number)
        folder.mkdir(parents=True)
        _touch(
            folder, [f"{study(number)}.{n}.dcm" for n in range(number * each + 1, (number + 1) * each + 1)]
        )


def _run_script(edge: EdgeSetup, script: str) -> None:
    edge.database.close()  # a connection keeps the deadline that it was opened with
    edge.database.deadline_seconds = 1800
    with edge.database.statement() as session:
        session.script(script)
    edge.database.close()  # its connection has the settings of the script
    with edge.database.statement() as session:
        session.script("VACUUM ANALYZE")


def grow_old(edge: EdgeSetup, count: int) -> None:
    """Make that many of them older than the retention: the ones received first."""
    edge.run(
        "UPDATE instances SET received_at = received_at - interval '30 h'"
        " WHERE id IN (SELECT id FROM instances ORDER BY received_at LIMIT %(count)s)",
        count=count,
    )
    edge.run(
        "UPDATE deliveries d SET settled_at = settled_at - interval '30 h' FROM instances i"
        " WHERE i.id = d.instance_id AND i.received_at < now() - interval '25 h'"
    )
    with edge.database.statement() as session:
        session.script("VACUUM ANALYZE")


def _touch(folder: Path, names: list[str]) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in names:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=descriptor))
    finally:
        os.close(descriptor)
