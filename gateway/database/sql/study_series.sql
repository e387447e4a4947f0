-- One study, summed up by series: it may have tens of thousands of instances. OFFSET 0 keeps the planner from joining whole
-- tables, as in timeline.sql.

-- name: series
SELECT series_instance_uid, kind::text, count(*) AS instances, min(received_at) AS first_received_at,
    max(received_at) AS last_received_at, min(calling_ae_title) AS sender, count(DISTINCT calling_ae_title) AS senders,
    count(*) FILTER (WHERE conflict) AS conflicts, count(*) FILTER (WHERE versioned) AS versioned,
    coalesce(sum(repeats), 0)::bigint AS repeats, coalesce(sum(unforwarded), 0)::bigint AS unforwarded,
    count(*) FILTER (WHERE late) AS late, count(*) FILTER (WHERE correlation = 'unmatched') AS unmatched
FROM instances WHERE study_instance_uid = %(study)s
GROUP BY series_instance_uid, kind ORDER BY min(received_at), series_instance_uid, kind;

-- name: deliveries
SELECT i.series_instance_uid, i.kind::text, d.route::text, d.target, d.state::text, count(*) AS count,
    min(d.owed_since) AS owed_since, min(d.settled_at) AS first_settled_at, max(d.settled_at) AS last_settled_at,
    min(d.next_attempt_at) AS next_attempt_at
FROM (SELECT id, series_instance_uid, kind FROM instances WHERE study_instance_uid = %(study)s OFFSET 0) AS i
CROSS JOIN LATERAL (SELECT * FROM deliveries WHERE instance_id = i.id OFFSET 0) AS d
GROUP BY i.series_instance_uid, i.kind, d.route, d.target, d.state
ORDER BY i.series_instance_uid, d.route, d.target, d.state;

-- name: answers
-- Deliveries to applications by worker and by what became of their result. A delivery that was sent to several workers counts
-- once: for the one that answered, else for the last one.
SELECT series_instance_uid, worker, state, count(*) AS count, min(first_asked_at) AS first_asked_at,
    max(asked_at) AS last_asked_at, min(arrived_at) AS first_arrived_at, max(arrived_at) AS last_arrived_at,
    max(due_at) AS last_due_at
FROM (
    SELECT DISTINCT ON (e.delivery_id) i.series_instance_uid, e.worker, e.asked_at, e.arrived_at, e.due_at,
        min(e.asked_at) OVER (PARTITION BY e.delivery_id) AS first_asked_at,
        CASE WHEN e.state IN ('arrived', 'late') THEN 'answered' WHEN e.state = 'owed' THEN 'owed' ELSE 'overdue' END AS state
    FROM (SELECT id, series_instance_uid FROM instances WHERE study_instance_uid = %(study)s OFFSET 0) AS i
    CROSS JOIN LATERAL (SELECT * FROM expected_results WHERE instance_id = i.id OFFSET 0) AS e
    ORDER BY e.delivery_id, e.state IN ('arrived', 'late') DESC, e.id DESC) AS last
GROUP BY series_instance_uid, worker, state ORDER BY series_instance_uid, worker, state;

-- name: instances
-- The next instances by reception: of one series, or of all without the results that belong to an original.
SELECT i.id AS instance_id, i.received_at FROM instances i
WHERE i.study_instance_uid = %(study)s
    AND CASE WHEN %(series)s::text IS NULL THEN i.kind = 'original' OR NOT EXISTS (
            SELECT FROM result_sources s WHERE s.result_instance_id = i.id)
        ELSE i.series_instance_uid = %(series)s END
    AND (%(received_at)s::timestamptz IS NULL OR (i.received_at, i.id) > (%(received_at)s, %(id)s))
ORDER BY i.received_at, i.id LIMIT %(limit)s;

-- name: versions
-- The SOP Instance UIDs of the study that were received with several contents, and each of their versions.
WITH found AS (
    SELECT DISTINCT sop_instance_uid FROM instances
    WHERE study_instance_uid = %(study)s AND versioned ORDER BY sop_instance_uid LIMIT %(limit)s)
SELECT v.id AS instance_id, v.sop_instance_uid, v.study_instance_uid, v.calling_ae_title, v.remote_address, v.received_at,
    v.conflict, left(encode(v.sha256, 'hex'), 12) AS digest, version_number(v.id) AS number
FROM found JOIN instances v ON v.sop_instance_uid = found.sop_instance_uid
ORDER BY v.sop_instance_uid, v.received_at, v.id;
