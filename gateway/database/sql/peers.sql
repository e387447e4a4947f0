-- The last errors of destinations, and the results that workers still have to return. Each statement reads a limited number of rows.

-- name: errors
-- The last errors of each destination, by their text: how often, and when the last one was.
WITH last AS MATERIALIZED (
    SELECT a.destination, a.outcome, a.status, a.error, a.ended_at
    FROM attempts a WHERE NOT a.fenced ORDER BY a.id DESC LIMIT %(limit)s
), grouped AS (
    SELECT l.destination, l.status, left(coalesce(l.error, l.outcome), 500) AS error, count(*) AS count,
        max(l.ended_at) AS last_at
    FROM last AS l
    WHERE l.outcome NOT IN ('delivered', 'already_there') AND l.ended_at > now() - %(window)s::interval
    GROUP BY l.destination, l.status, left(coalesce(l.error, l.outcome), 500)
)
SELECT g.destination, g.status, g.error, g.count, g.last_at
FROM (SELECT *, row_number() OVER (PARTITION BY destination ORDER BY last_at DESC) AS n FROM grouped) AS g
WHERE g.n <= %(each)s ORDER BY g.destination, g.last_at DESC;

-- name: workers
-- What each worker has to return: instances and units, since when the oldest, and how many are over their deadline.
SELECT d.ae_title, ARRAY(SELECT a.application FROM application_workers a WHERE a.ae_title = d.ae_title ORDER BY 1) AS applications,
    o.count AS instances, u.count AS units, least(o.oldest_at, u.oldest_at) AS oldest_at, least(o.due_at, u.due_at) AS due_at,
    o.overdue + u.overdue AS overdue
FROM destinations d
CROSS JOIN LATERAL (
    SELECT count(*), min(e.asked_at) AS oldest_at, min(e.due_at) AS due_at, count(*) FILTER (WHERE e.due_at < now()) AS overdue
    FROM (SELECT * FROM expected_results WHERE worker = d.ae_title AND state = 'owed' ORDER BY due_at LIMIT %(limit)s) AS e) AS o
CROSS JOIN LATERAL (
    SELECT count(*), min(x.sent_at) AS oldest_at, min(x.next_attempt_at) FILTER (WHERE x.state = 'sent') AS due_at,
        count(*) FILTER (WHERE x.state = 'sent' AND x.next_attempt_at < now()) AS overdue
    FROM units x WHERE x.worker = d.ae_title AND x.state IN ('sending', 'sent')) AS u
WHERE d.configured AND d.route = 'workers' ORDER BY d.ae_title;

-- name: awaited
-- The results that each worker has to return, those with the first deadlines.
SELECT d.ae_title, e.delivery_id, e.asked_at, e.due_at, i.sop_instance_uid, i.study_instance_uid
FROM destinations d
CROSS JOIN LATERAL (
    SELECT * FROM expected_results WHERE worker = d.ae_title AND state = 'owed' ORDER BY due_at LIMIT %(each)s) AS e
JOIN instances i ON i.id = e.instance_id
WHERE d.configured AND d.route = 'workers' ORDER BY d.ae_title, e.due_at;

-- name: fault_effects
-- How many receptions were refused, and how many sends failed, by injected faults since a time; of the last rows only.
SELECT (
    SELECT coalesce(sum(r.count), 0)::bigint
    FROM (SELECT * FROM refusals WHERE last_at >= %(since)s ORDER BY last_at DESC LIMIT %(limit)s) AS r
    WHERE r.reason = 'fault' OR r.detail LIKE '%%fault %%'
) AS refused, (
    SELECT count(*) FROM (SELECT * FROM attempts ORDER BY id DESC LIMIT %(limit)s) AS a
    WHERE a.ended_at >= %(since)s AND a.error LIKE '%%fault %%'
) AS failed;
