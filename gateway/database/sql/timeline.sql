-- Each statement looks up row by row what belongs to some instances. OFFSET 0 keeps the planner from joining a whole table
-- instead, which it prefers for a study with a hundredth of all rows: then the time would grow with what is kept.

-- name: instances
-- The instances of these studies, or those with these ids, and the results that were derived from them, whatever study those are of.
WITH of_studies AS MATERIALIZED (
    SELECT i.id FROM instances i WHERE i.study_instance_uid = ANY (%(studies)s::text[])
    UNION ALL SELECT i.id FROM instances i WHERE i.id = ANY (%(ids)s::bigint[])),
wanted AS (
    SELECT id FROM of_studies
    UNION SELECT s.result_instance_id FROM of_studies o
    CROSS JOIN LATERAL (SELECT result_instance_id FROM result_sources WHERE source_instance_id = o.id OFFSET 0) AS s)
SELECT i.id AS instance_id, i.sop_instance_uid, i.study_instance_uid, i.kind::text, i.calling_ae_title, i.received_at,
    i.conflict, i.correlation::text, i.late, i.place::text, i.repeats,
    i.unforwarded, i.unforwarded_at, i.unforwarded_from
FROM wanted CROSS JOIN LATERAL (SELECT * FROM instances WHERE id = wanted.id OFFSET 0) AS i
ORDER BY i.received_at, i.id;

-- name: deliveries
SELECT d.id AS delivery_id, d.instance_id, d.route::text, d.target, d.state::text, d.next_attempt_at, d.settled_at, d.settled_by,
    d.destination, d.last_status, d.last_error, d.lease_until, d.unit_id, before.id AS waits_for,
    CASE WHEN before.id IS NOT NULL THEN version_number(before.instance_id) END AS waits_for_version
FROM unnest(%(instance_ids)s::bigint[]) AS wanted (id)
CROSS JOIN LATERAL (SELECT id, versioned FROM instances WHERE id = wanted.id OFFSET 0) AS i
CROSS JOIN LATERAL (SELECT * FROM deliveries WHERE instance_id = i.id OFFSET 0) AS d
LEFT JOIN LATERAL (
    SELECT id, instance_id FROM deliveries WHERE id = CASE WHEN i.versioned THEN version_before(d.id) END OFFSET 0
) AS before ON true
ORDER BY d.id;

-- name: attempts
SELECT a.delivery_id, a.ended_at, a.duration_ms, a.destination, a.outcome, a.status, a.error, a.fenced
FROM unnest(%(instance_ids)s::bigint[]) AS wanted (id)
CROSS JOIN LATERAL (SELECT id FROM deliveries WHERE instance_id = wanted.id OFFSET 0) AS d
CROSS JOIN LATERAL (SELECT * FROM attempts WHERE delivery_id = d.id OFFSET 0) AS a
ORDER BY a.id;

-- name: expectations
SELECT e.instance_id, e.worker, e.state::text, e.asked_at, e.due_at, e.arrived_at, e.result_instance_id
FROM expected_results e WHERE e.instance_id = ANY (%(instance_ids)s::bigint[]) ORDER BY e.id;

-- name: sources
-- Only between instances that were read: a result may be committed after them, by another process.
-- An instance is no source of itself: a process of the previous version may have recorded one that a worker returned
-- unchanged.
SELECT s.source_instance_id, s.result_instance_id, s.worker
FROM result_sources s
WHERE s.source_instance_id = ANY (%(instance_ids)s::bigint[]) AND s.result_instance_id = ANY (%(instance_ids)s::bigint[])
    AND s.source_instance_id <> s.result_instance_id
ORDER BY s.source_instance_id, s.result_instance_id;
