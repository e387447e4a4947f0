-- name: originals
-- The way of each original: one row per original and result, those without a result with NULLs.
-- Durations are milliseconds of the attempt that delivered.
SELECT
    i.study_instance_uid, i.sop_instance_uid, i.calling_ae_title, i.received_at,
    p.state, p.settled_at, p.destination, p.duration_ms, p.last_error,
    w.state, w.settled_at, w.destination, w.duration_ms, w.last_error,
    r.sop_instance_uid, r.received_at, r.calling_ae_title,
    f.state, f.settled_at, f.destination, f.duration_ms, f.last_error
FROM instances i
LEFT JOIN LATERAL (
    SELECT d.state::text, d.settled_at, d.destination, d.last_error, a.duration_ms
    FROM deliveries d LEFT JOIN LATERAL (
        SELECT x.duration_ms FROM attempts x WHERE x.delivery_id = d.id AND NOT x.fenced ORDER BY x.id DESC LIMIT 1
    ) a ON d.state = 'delivered'
    WHERE d.instance_id = i.id AND d.route = 'pacs'
) p ON true
LEFT JOIN LATERAL (
    SELECT d.state::text, d.settled_at, d.destination, d.last_error, a.duration_ms
    FROM deliveries d LEFT JOIN LATERAL (
        SELECT x.duration_ms FROM attempts x WHERE x.delivery_id = d.id AND NOT x.fenced ORDER BY x.id DESC LIMIT 1
    ) a ON d.state = 'delivered'
    WHERE d.instance_id = i.id AND d.route = 'workers'
) w ON true
LEFT JOIN LATERAL (
    SELECT x.id, x.sop_instance_uid, x.received_at, x.calling_ae_title
    FROM result_sources s JOIN instances x ON x.id = s.result_instance_id
    WHERE s.source_instance_id = i.id ORDER BY x.received_at, x.id LIMIT 1
) r ON true
LEFT JOIN LATERAL (
    SELECT d.state::text, d.settled_at, d.destination, d.last_error, a.duration_ms
    FROM deliveries d LEFT JOIN LATERAL (
        SELECT x.duration_ms FROM attempts x WHERE x.delivery_id = d.id AND NOT x.fenced ORDER BY x.id DESC LIMIT 1
    ) a ON d.state = 'delivered'
    WHERE d.instance_id = r.id AND d.route = 'pacs'
) f ON true
WHERE i.kind = 'original'
ORDER BY i.received_at, i.id;
