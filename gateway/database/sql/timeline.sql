-- name: instances
-- The instances of these studies, and the results that were derived from them, whatever study those are of. UNION, not OR:
-- for an OR of two subqueries the planner reads all instances.
WITH of_studies AS (
    SELECT i.id FROM instances i WHERE i.study_instance_uid = ANY (%(studies)s::text[]))
SELECT i.id AS instance_id, i.sop_instance_uid, i.study_instance_uid, i.kind::text, i.calling_ae_title, i.received_at,
    i.conflict, i.correlation::text, i.late, i.place::text, i.repeats,
    i.unforwarded, i.unforwarded_at, i.unforwarded_from
FROM instances i
WHERE i.id IN (
    SELECT id FROM of_studies
    UNION SELECT s.result_instance_id FROM result_sources s JOIN of_studies o ON o.id = s.source_instance_id)
ORDER BY i.received_at, i.id;

-- name: deliveries
SELECT d.id AS delivery_id, d.instance_id, d.route::text, d.state::text, d.next_attempt_at, d.settled_at, d.settled_by,
    d.destination, d.last_status, d.last_error, d.lease_until, before.id AS waits_for,
    CASE WHEN before.id IS NOT NULL THEN version_number(before.instance_id) END AS waits_for_version
FROM deliveries d JOIN instances i ON i.id = d.instance_id
LEFT JOIN deliveries before ON before.id = CASE WHEN i.versioned THEN version_before(d.id) END
WHERE d.instance_id = ANY (%(instance_ids)s::bigint[]) ORDER BY d.id;

-- name: attempts
SELECT a.delivery_id, a.ended_at, a.duration_ms, a.destination, a.outcome, a.status, a.error, a.fenced
FROM attempts a JOIN deliveries d ON d.id = a.delivery_id
WHERE d.instance_id = ANY (%(instance_ids)s::bigint[]) ORDER BY a.id;

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
