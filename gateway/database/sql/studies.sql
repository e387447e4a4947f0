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
-- Per study: first and last reception, calling AE titles, count of originals, results and conflicts.
SELECT study_instance_uid, min(received_at) AS first_received_at, max(received_at) AS last_received_at,
    coalesce(array_agg(DISTINCT calling_ae_title) FILTER (WHERE kind = 'original'), '{}') AS calling_ae_titles,
    count(*) FILTER (WHERE kind = 'original') AS instances, count(*) FILTER (WHERE kind = 'result') AS results,
    count(*) FILTER (WHERE conflict) AS conflicts
FROM instances WHERE study_instance_uid = ANY (%(studies)s) GROUP BY study_instance_uid;

-- name: deliveries
-- Study by study (LATERAL), so that the planner uses indexes and never reads the whole table.
SELECT s.study AS study_instance_uid, counted.route::text, counted.state::text, counted.count
FROM unnest(%(studies)s::text[]) AS s (study)
CROSS JOIN LATERAL (
    SELECT d.route, d.state, count(*) AS count
    FROM instances i JOIN deliveries d ON d.instance_id = i.id
    WHERE i.study_instance_uid = s.study GROUP BY d.route, d.state) AS counted;

-- name: is_kept
SELECT EXISTS (SELECT FROM instances WHERE study_instance_uid = %(study)s);
