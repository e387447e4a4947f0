-- name: originals
-- The way of each original: one row per original and result, those without a result with NULLs.
-- Durations are milliseconds of the attempt that delivered.
WITH leg AS (
    SELECT d.instance_id, d.route, d.state::text, d.settled_at, d.destination, d.last_error, a.duration_ms
    FROM deliveries d LEFT JOIN LATERAL (
        SELECT x.duration_ms FROM attempts x WHERE x.delivery_id = d.id AND NOT x.fenced ORDER BY x.id DESC LIMIT 1
    ) a ON d.state = 'delivered'
)
SELECT
    i.study_instance_uid, i.sop_instance_uid, i.calling_ae_title, i.received_at,
    p.state, p.settled_at, p.destination, p.duration_ms, p.last_error,
    w.state, w.settled_at, w.destination, w.duration_ms, w.last_error,
    r.sop_instance_uid, r.received_at, r.calling_ae_title,
    f.state, f.settled_at, f.destination, f.duration_ms, f.last_error
FROM instances i
LEFT JOIN leg p ON p.instance_id = i.id AND p.route = 'pacs'
LEFT JOIN leg w ON w.instance_id = i.id AND w.route = 'workers'
LEFT JOIN LATERAL (
    SELECT x.id, x.sop_instance_uid, x.received_at, x.calling_ae_title
    FROM result_sources s JOIN instances x ON x.id = s.result_instance_id
    WHERE s.source_instance_id = i.id ORDER BY x.received_at, x.id LIMIT 1
) r ON true
LEFT JOIN leg f ON f.instance_id = r.id AND f.route = 'pacs'
WHERE i.kind = 'original'
ORDER BY i.received_at, i.id;
