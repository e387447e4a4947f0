"""Write the rows of many studies by SQL, without files: for statements and pages that have to stay fast."""

from gateway.database.pool import Database

ROOT = "1.2.826.0.1.3680043.10.1338.7"

_FILL = """
SET session_replication_role TO replica;  -- no foreign keys, no triggers: the rows agree
SET synchronous_commit TO off;
INSERT INTO instances (sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid,
    transfer_syntax_uid, sha256, data_set_size, calling_ae_title, called_ae_title, remote_address, kind,
    correlation, place, file_name, received_at)
SELECT '{root}.' || study || '.' || n, '{root}.' || study, '{root}.' || study || '.0.' || kind,
    '1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.1.2.1', sha256(convert_to(n::text, 'UTF8')), 525000,
    CASE WHEN is_result THEN 'APP01' WHEN study % 997 = 0 THEN 'MR7' ELSE 'CT' || study % 5 END, 'MINI_EDGE',
    '10.1.2.3',
    (CASE WHEN is_result THEN 'result' ELSE 'original' END)::instance_kind,
    CASE WHEN is_result THEN 'references'::correlation END, 'sent',
    '{root}.' || study || '.' || n || '.dcm', now() - interval '20 h' * (1 - n / {instances}.0)
FROM (SELECT n, (n - 1) / {each} AS study, n % 2 = 0 AS is_result, n % 2 AS kind
      FROM generate_series(1, {instances}) AS n) AS new;
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
SELECT d.id, d.instance_id, 'APP01', gen_random_uuid(), 'arrived', d.settled_at, d.settled_at,
    d.settled_at + interval '20 s', d.instance_id + 1
FROM deliveries d WHERE d.route = 'workers' ORDER BY d.id;
INSERT INTO result_sources (result_instance_id, source_instance_id, worker)
SELECT d.instance_id + 1, d.instance_id, 'APP01' FROM deliveries d WHERE d.route = 'workers' ORDER BY d.id;
UPDATE deliveries SET state = 'pending', settled_at = NULL, next_attempt_at = now() + interval '1 min',
    last_status = NULL, last_error = 'ORTHANC at 10.1.2.9:4242: connection refused'
WHERE route = 'pacs' AND id > (SELECT max(id) FROM deliveries) - {waiting};
UPDATE deliveries SET state = 'dead', last_status = 42752 + id % 3,
    last_error = 'gave up after 6 attempts: 0xA700 case ' || id % 3
WHERE id % {dead_every} = 0 AND state = 'delivered';
UPDATE deliveries SET state = 'cancelled', settled_by = 'ops@console'
WHERE id % {cancelled_every} = 1 AND state = 'delivered';
"""


def fill(
    database: Database,
    *,
    studies: int,
    instances: int,
    waiting: int = 0,
    dead_every: int = 300,
    cancelled_every: int = 1000,
) -> None:
    """Write that many studies and instances, received over the last 20 hours, half of them results.

    Among the last `waiting` deliveries those to the PACS wait; one of `dead_every` is dead.
    """
    database.close()  # a connection keeps the deadline that it was opened with
    database.deadline_seconds = 1800
    with database.statement() as session:
        session.script(
            _FILL.format(
                root=ROOT,
                instances=instances,
                each=instances // studies,
                waiting=waiting,
                dead_every=dead_every,
                cancelled_every=cancelled_every,
            )
        )
    database.close()  # its connection has the settings above
    with database.statement() as session:
        session.script("VACUUM ANALYZE")
    database.close()


def study(number: int) -> str:
    """Return the UID of a study, by its number from 0."""
    return f"{ROOT}.{number}"
