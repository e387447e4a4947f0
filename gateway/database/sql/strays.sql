-- Instances with other bytes under a known UID, and results that match no source.

-- name: conflicts
-- One row for each SOP Instance UID with several versions, the one whose last version came last first.
SELECT i.id AS instance_id, i.sop_instance_uid, i.study_instance_uid, i.kind::text, v.versions, v.senders, v.first_at,
    i.received_at AS last_at, v.repeats, v.deliveries
FROM instances i
CROSS JOIN LATERAL (
    SELECT count(*) AS versions, min(x.received_at) AS first_at, sum(x.repeats)::bigint AS repeats,
        array_agg(DISTINCT x.calling_ae_title || '@' || x.remote_address) AS senders,
        (SELECT jsonb_object_agg(s.state, s.count) FROM (
            SELECT d.state, count(*) FROM instances y JOIN deliveries d ON d.instance_id = y.id
            WHERE y.sop_instance_uid = i.sop_instance_uid GROUP BY d.state) AS s) AS deliveries
    FROM instances x WHERE x.sop_instance_uid = i.sop_instance_uid) AS v
WHERE i.conflict
    AND (%(received_at)s::timestamptz IS NULL OR (i.received_at, i.id) < (%(received_at)s::timestamptz, %(id)s::bigint))
    AND NOT EXISTS (SELECT FROM instances n WHERE n.sop_instance_uid = i.sop_instance_uid AND n.conflict
                    AND (n.received_at, n.id) > (i.received_at, i.id))
ORDER BY i.received_at DESC, i.id DESC LIMIT %(limit)s;

-- name: conflicts_of_senders
-- Which senders used a SOP Instance UID again for other bytes lately: how many UIDs, how many versions of them.
SELECT x.calling_ae_title, x.remote_address, count(DISTINCT x.sop_instance_uid) AS uids, count(*) AS versions,
    min(x.received_at) AS first_at, max(x.received_at) AS last_at,
    (array_agg(x.sop_instance_uid ORDER BY x.received_at DESC))[1] AS newest
FROM (SELECT i.calling_ae_title, i.remote_address, i.sop_instance_uid, i.received_at FROM instances i
    WHERE i.conflict AND i.received_at > now() - %(window)s ORDER BY i.received_at DESC LIMIT %(limit)s) AS x
GROUP BY x.calling_ae_title, x.remote_address ORDER BY count(*) DESC;

-- name: unmatched_of_senders
-- Which senders sent results lately that match no instance: how many since the last one that matched.
SELECT x.calling_ae_title, x.remote_address, count(*) AS results, min(x.received_at) AS first_at, max(x.received_at) AS last_at
FROM (
    SELECT r.calling_ae_title, r.remote_address, r.received_at, r.correlation,
        max(r.received_at) FILTER (WHERE r.correlation IS DISTINCT FROM 'unmatched')
            OVER (PARTITION BY r.calling_ae_title, r.remote_address) AS matched_at
    FROM (SELECT i.* FROM instances i WHERE i.received_at > now() - %(window)s ORDER BY i.received_at DESC LIMIT %(limit)s) AS r
    WHERE r.kind = 'result') AS x
WHERE x.correlation = 'unmatched' AND x.received_at > coalesce(x.matched_at, '-infinity')
GROUP BY x.calling_ae_title, x.remote_address ORDER BY count(*) DESC;

-- name: instances
-- Instances, the one that was received last first.
SELECT i.id AS instance_id, i.sop_instance_uid, i.study_instance_uid, i.series_instance_uid, i.kind::text, i.sop_class_uid,
    i.calling_ae_title, i.remote_address, i.received_at, i.place::text, i.conflict, i.repeats
FROM instances i
WHERE (%(received_at)s::timestamptz IS NULL OR (i.received_at, i.id) < (%(received_at)s::timestamptz, %(id)s::bigint))
    AND (%(study)s::text IS NULL OR i.study_instance_uid = %(study)s)
ORDER BY i.received_at DESC, i.id DESC LIMIT %(limit)s;

-- name: results
-- Results with how their sources were found, the one that was received last first. With `flagged` only those that matched
-- nothing or several, or came late.
SELECT i.id AS instance_id, i.sop_instance_uid, i.study_instance_uid, i.calling_ae_title, i.remote_address, i.received_at,
    i.correlation::text, i.late,
    (SELECT count(*) FROM result_sources s WHERE s.result_instance_id = i.id) AS sources,
    ARRAY(SELECT u.uid FROM unmatched_references u
        WHERE u.result_id = i.id AND u.uid NOT IN (i.sop_instance_uid, i.study_instance_uid)
        ORDER BY u.uid LIMIT %(uids)s) AS unknown_uids,
    EXISTS (SELECT FROM instances o WHERE o.study_instance_uid = i.study_instance_uid AND o.kind = 'original')
        AS study_is_kept
FROM instances i
WHERE i.kind = 'result'
    AND (NOT %(flagged)s OR i.late OR i.correlation IN ('ambiguous', 'unmatched'))
    AND (%(correlation)s::correlation IS NULL OR i.correlation = %(correlation)s::correlation)
    AND (%(received_at)s::timestamptz IS NULL OR (i.received_at, i.id) < (%(received_at)s::timestamptz, %(id)s::bigint))
ORDER BY i.received_at DESC, i.id DESC LIMIT %(limit)s;
