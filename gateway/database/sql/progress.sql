-- Whether deliveries and results move. Each statement reads a limited number of rows of an index.

-- name: due
-- Per target, since when the first delivery is due that nothing holds back; no row where none is.
WITH RECURSIVE {fragment:owed_targets}
SELECT t.route::text, t.target, d.next_attempt_at AS since
FROM owed_targets AS t
CROSS JOIN LATERAL (
    SELECT next_attempt_at FROM deliveries
    WHERE route = t.route AND target = t.target AND state = 'pending' AND next_attempt_at <= now()
        AND waits_for IS NULL AND waits_for_version IS NULL AND parked_for IS NULL
    ORDER BY next_attempt_at LIMIT 1) AS d
ORDER BY t.route, t.target;

-- name: last_due
-- For each target: when the last of its pending deliveries is due that are not due yet, and that nothing
-- else holds back.
WITH RECURSIVE {fragment:owed_targets}
SELECT t.route::text, t.target, d.next_attempt_at AS since
FROM owed_targets AS t
CROSS JOIN LATERAL (
    SELECT next_attempt_at FROM deliveries
    WHERE route = t.route AND target = t.target AND state = 'pending' AND next_attempt_at > now()
        AND waits_for IS NULL AND waits_for_version IS NULL AND parked_for IS NULL
    ORDER BY next_attempt_at DESC LIMIT 1) AS d
ORDER BY t.route, t.target;

-- name: worker_results
-- Of the results that were expected last, those that each worker did not return since it returned one; and how many of those that
-- it returned last came after their deadline.
SELECT x.worker, count(*) FILTER (WHERE x.state IN ('arrived', 'late')) AS answered,
    count(*) FILTER (WHERE x.is_missing) AS missing, min(x.asked_at) FILTER (WHERE x.is_missing) AS since,
    count(*) FILTER (WHERE x.is_late) AS late,
    coalesce(max(extract(epoch FROM x.arrived_at - x.asked_at)) FILTER (WHERE x.is_late), 0)::float8
        AS slowest
FROM (
    SELECT e.worker, e.state, e.asked_at, e.arrived_at,
        e.state = 'late' AND e.arrived_at > now() - %(lately)s::interval
            AND row_number() OVER (PARTITION BY e.worker ORDER BY e.arrived_at DESC NULLS LAST) <= %(last)s AS is_late,
        (e.state = 'timed_out' OR (e.state = 'owed' AND e.due_at < now())) AND e.asked_at > now() - %(window)s
            AND e.asked_at > coalesce(max(e.arrived_at) OVER (PARTITION BY e.worker), '-infinity') AS is_missing
    FROM (SELECT * FROM expected_results ORDER BY id DESC LIMIT %(limit)s) AS e) AS x
GROUP BY x.worker ORDER BY x.worker;

-- name: accepted
-- When each sender last sent an instance that was registered, over the last minutes.
SELECT x.calling_ae_title, x.remote_address, max(x.received_at) AS last_at FROM (
    SELECT calling_ae_title, remote_address, received_at FROM instances
    WHERE received_at > now() - %(window)s ORDER BY received_at DESC LIMIT %(limit)s) AS x
GROUP BY x.calling_ae_title, x.remote_address;
