-- Refusals of the edge. Each process adds the counts of its memory every few seconds.

-- name: add
-- All processes lock the rows in one order, so that there is no deadlock.
INSERT INTO refusals AS r (minute, kind, reason, calling_ae_title, called_ae_title, remote_address, count, first_at, last_at,
    status, detail, last_uid)
SELECT date_trunc('minute', n.first_at), n.* FROM unnest(
    %(kinds)s::text[], %(reasons)s::text[], %(calling)s::text[], %(called)s::text[], %(addresses)s::text[], %(counts)s::bigint[],
    %(first)s::timestamptz[], %(last)s::timestamptz[], %(statuses)s::integer[], %(details)s::text[], %(uids)s::text[]
) AS n (kind, reason, calling_ae_title, called_ae_title, remote_address, count, first_at, last_at, status, detail, last_uid)
ORDER BY 1, 2, 3, 4, 5, 6
ON CONFLICT ON CONSTRAINT refusals_pkey DO UPDATE SET count = r.count + EXCLUDED.count,
    first_at = least(r.first_at, EXCLUDED.first_at), last_at = greatest(r.last_at, EXCLUDED.last_at),
    status = EXCLUDED.status, detail = EXCLUDED.detail, last_uid = coalesce(EXCLUDED.last_uid, r.last_uid);

-- name: add_instances
INSERT INTO refused_instances AS r (sop_instance_uid, study_instance_uid, calling_ae_title, remote_address, reason, status,
    detail, count, first_at, last_at)
SELECT n.* FROM unnest(
    %(instances)s::text[], %(studies)s::text[], %(calling)s::text[], %(addresses)s::text[], %(reasons)s::text[],
    %(statuses)s::integer[], %(details)s::text[], %(counts)s::bigint[], %(first)s::timestamptz[], %(last)s::timestamptz[]
) AS n (sop_instance_uid, study_instance_uid, calling_ae_title, remote_address, reason, status, detail, count, first_at, last_at)
ORDER BY 1, 3, 4, 5
ON CONFLICT ON CONSTRAINT refused_instances_pkey DO UPDATE SET count = r.count + EXCLUDED.count,
    study_instance_uid = CASE WHEN EXCLUDED.study_instance_uid = '' THEN r.study_instance_uid
        ELSE EXCLUDED.study_instance_uid END,
    status = EXCLUDED.status, detail = EXCLUDED.detail, first_at = least(r.first_at, EXCLUDED.first_at),
    last_at = greatest(r.last_at, EXCLUDED.last_at);

-- name: page
-- One row for each peer and reason over the window, the last one first. At most `newest` rows are read, the newest ones.
SELECT g.* FROM (
    SELECT r.kind, r.reason, r.calling_ae_title, r.called_ae_title, r.remote_address, sum(r.count)::bigint AS count,
        min(r.first_at) AS first_at, max(r.last_at) AS last_at,
        (array_agg(r.status ORDER BY r.last_at DESC))[1] AS status,
        (array_agg(r.detail ORDER BY r.last_at DESC))[1] AS detail,
        (array_agg(r.last_uid ORDER BY r.last_at DESC) FILTER (WHERE r.last_uid IS NOT NULL))[1] AS last_uid,
        md5(concat_ws(chr(31), r.kind, r.reason, r.calling_ae_title, r.called_ae_title, r.remote_address)) AS id
    FROM (SELECT * FROM refusals WHERE last_at > now() - %(window)s::interval ORDER BY last_at DESC LIMIT %(newest)s) AS r
    WHERE (%(calling)s::text IS NULL OR r.calling_ae_title = %(calling)s)
    GROUP BY r.kind, r.reason, r.calling_ae_title, r.called_ae_title, r.remote_address
) AS g
WHERE %(last_at)s::timestamptz IS NULL OR (g.last_at, g.id) < (%(last_at)s, %(id)s)
ORDER BY g.last_at DESC, g.id DESC LIMIT %(limit)s;

-- name: has_more_than
SELECT EXISTS (SELECT FROM refusals WHERE last_at > now() - %(window)s::interval ORDER BY last_at DESC OFFSET %(count)s);

-- name: instances
-- Refused instances of a study or with one UID, the last one first.
SELECT r.sop_instance_uid, r.study_instance_uid, r.calling_ae_title, r.remote_address, r.reason, r.status, r.detail, r.count,
    r.first_at, r.last_at,
    EXISTS (SELECT FROM instances i WHERE i.sop_instance_uid = r.sop_instance_uid)
        OR EXISTS (SELECT FROM history_instances h WHERE h.sop_instance_uid = r.sop_instance_uid) AS was_accepted
FROM refused_instances AS r
WHERE sop_instance_uid = %(uid)s OR (study_instance_uid = %(uid)s AND study_instance_uid <> '')
ORDER BY last_at DESC, sop_instance_uid LIMIT %(limit)s;

-- name: forget
-- Old rows, and the oldest ones while the planner estimates more than %(most)s rows.
DELETE FROM refusals WHERE ctid IN (
    SELECT ctid FROM refusals
    WHERE last_at < now() - %(kept)s::interval OR (SELECT reltuples FROM pg_class WHERE oid = 'refusals'::regclass) > %(most)s
    ORDER BY last_at LIMIT %(limit)s);

-- name: forget_instances
DELETE FROM refused_instances WHERE ctid IN (
    SELECT ctid FROM refused_instances
    WHERE last_at < now() - %(kept)s::interval OR (SELECT reltuples FROM pg_class WHERE oid = 'refused_instances'::regclass) > %(most)s
    ORDER BY last_at LIMIT %(limit)s);
