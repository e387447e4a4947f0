-- The kept studies, newest first. There is no table of studies: a page reads instances by time of reception, and counts the
-- rows of each study that it shows. Its cost grows with the instances of those studies, not with all that are kept.

-- name: step
-- The next instances by time of reception; the id orders those of one transaction. The condition on the time alone limits the
-- scan of the index.
SELECT received_at, id AS instance_id, study_instance_uid FROM instances
WHERE %(received_at)s::timestamptz IS NULL
    OR (received_at <= %(received_at)s AND (received_at, id) < (%(received_at)s, %(id)s))
ORDER BY received_at DESC, id DESC LIMIT %(limit)s;

-- name: newer
-- Which of these studies have an instance at a position or newer: an earlier page has shown them.
SELECT DISTINCT study_instance_uid FROM instances
WHERE study_instance_uid = ANY (%(studies)s) AND (received_at, id) >= (%(received_at)s, %(id)s);

-- name: instances
-- Per study: first and last reception, calling AE titles, count of originals, results and conflicts. First by AE title, kind
-- and conflict: few rows are left to sort for the AE titles.
SELECT study_instance_uid, min(first) AS first_received_at, max(last) AS last_received_at,
    coalesce(array_agg(DISTINCT calling_ae_title) FILTER (WHERE kind = 'original'), '{}') AS calling_ae_titles,
    coalesce(sum(count) FILTER (WHERE kind = 'original'), 0)::bigint AS instances,
    coalesce(sum(count) FILTER (WHERE kind = 'result'), 0)::bigint AS results,
    coalesce(sum(count) FILTER (WHERE conflict), 0)::bigint AS conflicts
FROM (
    SELECT study_instance_uid, calling_ae_title, kind, conflict, count(*) AS count,
        min(received_at) AS first, max(received_at) AS last
    FROM instances WHERE study_instance_uid = ANY (%(studies)s)
    GROUP BY study_instance_uid, calling_ae_title, kind, conflict) AS counted
GROUP BY study_instance_uid;

-- name: deliveries
-- Instance by instance: OFFSET 0 keeps the planner from joining the whole table, which it prefers for large studies.
SELECT i.study_instance_uid, d.route::text, d.state::text, count(*)
FROM unnest(%(studies)s::text[]) AS s (study)
CROSS JOIN LATERAL (SELECT id, study_instance_uid FROM instances WHERE study_instance_uid = s.study OFFSET 0) AS i
CROSS JOIN LATERAL (SELECT route, state FROM deliveries WHERE instance_id = i.id OFFSET 0) AS d
GROUP BY i.study_instance_uid, d.route, d.state;

-- name: result_series
-- Of each study, how many results each series of results has.
SELECT study_instance_uid, count(*) AS results FROM instances
WHERE study_instance_uid = ANY (%(studies)s) AND kind = 'result'
GROUP BY study_instance_uid, series_instance_uid ORDER BY study_instance_uid, results DESC;

-- name: is_kept
SELECT EXISTS (SELECT FROM instances WHERE study_instance_uid = %(study)s);
