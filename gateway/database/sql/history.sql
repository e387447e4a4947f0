-- Instances that were purged, for sweep.history_days. A row for each study, series and instance.

-- name: keep
-- Run it in the transaction that deletes these instances, before them.
WITH old AS (
    SELECT * FROM instances WHERE id = ANY (%(instance_ids)s::bigint[])
), outcomes AS (
    SELECT d.instance_id, jsonb_object_agg({fragment:shown_target},
        jsonb_build_array(d.route, d.state, extract(epoch FROM d.settled_at)::bigint, d.last_status)) AS of_instance
    FROM deliveries d WHERE d.instance_id = ANY (%(instance_ids)s::bigint[]) GROUP BY d.instance_id
), studies AS (
    INSERT INTO history_studies AS h (study_instance_uid, first_received_at, last_received_at)
    SELECT o.study_instance_uid, min(o.received_at), max(greatest(o.received_at, o.repeated_at))
    FROM old o GROUP BY o.study_instance_uid ORDER BY o.study_instance_uid
    ON CONFLICT ON CONSTRAINT history_studies_one_per_uid DO UPDATE
    SET first_received_at = least(h.first_received_at, EXCLUDED.first_received_at),
        last_received_at = greatest(h.last_received_at, EXCLUDED.last_received_at), purged_at = now()
    RETURNING h.id, h.study_instance_uid
), series AS (
    INSERT INTO history_series AS h (study_id, series_instance_uid, calling_ae_title, remote_address, kind)
    SELECT DISTINCT s.id, o.series_instance_uid, o.calling_ae_title, o.remote_address, o.kind
    FROM old o JOIN studies s USING (study_instance_uid) ORDER BY 1, 2, 3, 4, 5
    -- changes nothing; without it, no row is returned that is there already
    ON CONFLICT ON CONSTRAINT history_series_one_per_sender DO UPDATE SET kind = EXCLUDED.kind
    RETURNING h.id, h.study_id, h.series_instance_uid, h.calling_ae_title, h.remote_address, h.kind
)
INSERT INTO history_instances (series_id, received_at, repeats, sop_instance_uid, outcomes)
SELECT x.id, o.received_at, o.repeats, o.sop_instance_uid, coalesce(p.of_instance, '{}')
FROM old o
JOIN studies s USING (study_instance_uid)
JOIN series x ON x.study_id = s.id AND x.series_instance_uid = o.series_instance_uid
    AND x.calling_ae_title = o.calling_ae_title AND x.remote_address = o.remote_address AND x.kind = o.kind
LEFT JOIN outcomes p ON p.instance_id = o.id
ORDER BY x.id, o.received_at;

-- name: find
-- Instances of the history by their own UID, that of their series, or that of their study; those that were not delivered
-- everywhere first.
SELECT h.study_instance_uid, s.series_instance_uid, n.sop_instance_uid, s.calling_ae_title, s.remote_address, s.kind::text,
    n.received_at, n.repeats, h.purged_at,
    (SELECT coalesce(jsonb_object_agg(o.key, jsonb_build_object('route', o.value ->> 0, 'state', o.value ->> 1,
            'at', to_timestamp((o.value ->> 2)::bigint), 'status', (o.value ->> 3)::integer)), '{}')
     FROM jsonb_each(n.outcomes) AS o) AS outcomes
FROM (
    SELECT i.* FROM history_instances i WHERE i.sop_instance_uid = %(uid)s
    UNION ALL
    SELECT i.* FROM history_series s JOIN history_instances i ON i.series_id = s.id WHERE s.series_instance_uid = %(uid)s
    UNION ALL
    SELECT i.* FROM history_studies h JOIN history_series s ON s.study_id = h.id JOIN history_instances i ON i.series_id = s.id
    WHERE h.study_instance_uid = %(uid)s
) AS n
JOIN history_series s ON s.id = n.series_id
JOIN history_studies h ON h.id = s.study_id
ORDER BY EXISTS (SELECT FROM jsonb_each(n.outcomes) AS o WHERE o.value ->> 1 <> 'delivered') DESC, n.received_at
LIMIT %(limit)s;

-- name: of_sender
-- The studies of the history that an AE title sent and that were received in a time, the last one first.
SELECT DISTINCT h.study_instance_uid, h.last_received_at
FROM history_studies h JOIN history_series s ON s.study_id = h.id
WHERE s.calling_ae_title = %(ae_title)s AND h.first_received_at <= %(until)s AND h.last_received_at >= %(begin)s
ORDER BY h.last_received_at DESC LIMIT %(limit)s;

-- name: forget
-- Some studies whose time is over, with their series and instances.
DELETE FROM history_studies WHERE id IN (
    SELECT id FROM history_studies WHERE last_received_at < now() - %(kept)s::interval ORDER BY last_received_at LIMIT %(limit)s)
RETURNING study_instance_uid;
