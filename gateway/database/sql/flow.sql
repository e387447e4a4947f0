-- How much arrives for each target and how much leaves. Each statement reads the last rows up to a limit, by primary key; where
-- the limit is reached, `covered_seconds` is shorter than the window.

-- name: arrived
-- New deliveries. A delivery that is sent again is not counted.
WITH last AS MATERIALIZED (
    SELECT d.route, d.target, d.owed_since FROM deliveries d ORDER BY d.id DESC LIMIT %(limit)s)
SELECT l.route::text, l.target, count(*) AS count, {fragment:covered_seconds} AS covered_seconds,
    extract(epoch FROM now() - max(l.owed_since))::float8 AS quiet_seconds
FROM last AS l WHERE l.owed_since > now() - %(window)s::interval
GROUP BY l.route, l.target;

-- name: completed
-- Attempts that ended, by target and by the destination that was tried.
WITH last AS MATERIALIZED (
    SELECT a.delivery_id, a.destination, a.outcome, a.duration_ms, a.ended_at AS owed_since
    FROM attempts a WHERE NOT a.fenced ORDER BY a.id DESC LIMIT %(limit)s)
SELECT d.route::text, d.target, l.destination, count(*) AS attempts,
    count(*) FILTER (WHERE l.outcome IN ('delivered', 'already_there')) AS delivered,
    sum(l.duration_ms) / 1000 AS seconds, {fragment:covered_seconds} AS covered_seconds
FROM last AS l JOIN deliveries d ON d.id = l.delivery_id WHERE l.owed_since > now() - %(window)s::interval
GROUP BY d.route, d.target, l.destination;

-- name: waiting
-- The deliveries of each target that wait, and that are being sent, each count up to a limit; and since when the oldest send is unanswered.
WITH RECURSIVE {fragment:owed_targets}, targets AS (
    SELECT x.route, x.ae_title AS target FROM destinations x WHERE x.configured AND x.route <> 'workers'
    UNION SELECT 'workers', a.application FROM application_workers a
    UNION SELECT t.route, t.target FROM owed_targets t
)
SELECT t.route::text, t.target, w.count AS waiting, f.count AS in_flight, f.since AS oldest_send_at,
    coalesce((SELECT sum(c.threads) FROM dramatiq.consumers c JOIN dramatiq.live ON live.id = c.id
        WHERE queue_of(t.route, t.target) = ANY (c.queues)), 0)::integer AS threads,
    CASE WHEN t.route = 'workers' THEN EXISTS (
            SELECT FROM application_workers a JOIN destinations x USING (ae_title)
            WHERE a.application = t.target AND x.breaker = 'closed' AND NOT x.paused)
        ELSE EXISTS (SELECT FROM destinations x WHERE x.ae_title = t.target AND x.breaker = 'closed' AND NOT x.paused)
        END AS is_open
FROM targets AS t
CROSS JOIN LATERAL (SELECT count(*) FROM (
    SELECT FROM deliveries d WHERE d.route = t.route AND d.target = t.target AND d.state = 'pending' LIMIT %(limit)s) AS x) AS w
CROSS JOIN LATERAL (SELECT count(*), min(x.lease_until) - %(lease)s::interval AS since FROM (
    SELECT d.lease_until FROM deliveries d
    WHERE d.route = t.route AND d.target = t.target AND d.state = 'in_flight' LIMIT %(limit)s) AS x) AS f
ORDER BY t.route, t.target;
