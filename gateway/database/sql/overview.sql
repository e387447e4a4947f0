-- Every statement here reads an index up to a limit, or a table that stays small: `mini-pacs status` must stay fast with a
-- backlog of a million deliveries.

-- name: deliveries_size
-- Bytes of the table, and its rows as the planner last estimated them (negative: no estimate).
SELECT pg_relation_size('deliveries') AS bytes, reltuples::bigint AS estimated_rows FROM pg_class WHERE oid = 'deliveries'::regclass;

-- name: count_all
-- For a small table.
SELECT route::text, target, state::text, count(*), true AS exact FROM deliveries
GROUP BY route, target, state ORDER BY route, target, state;

-- name: count_unsettled
-- Up to a limit, from the index of unsettled deliveries.
WITH RECURSIVE {fragment:owed_targets}
SELECT t.route::text, t.target, s.state::text, found.count, found.count < %(limit)s AS exact
FROM owed_targets t
CROSS JOIN (VALUES ('collecting'::delivery_state), ('pending'), ('in_flight'), ('dead')) AS s (state)
CROSS JOIN LATERAL (SELECT count(*) FROM (
    SELECT FROM deliveries d
    WHERE d.route = t.route AND d.target = t.target AND d.state = s.state
        AND d.state IN ('collecting', 'pending', 'in_flight', 'dead') LIMIT %(limit)s) AS x) AS found
WHERE found.count > 0
ORDER BY t.route, t.target, s.state;

-- name: oldest_waiting
-- Per target the delivery with the oldest owed_since, among those that are due first (never tried) and those that are due
-- last (postponed most). If few wait, that is all of them.
WITH RECURSIVE {fragment:owed_targets}
SELECT r.route::text, r.target, oldest.id AS delivery_id, oldest.state::text, oldest.owed_since, oldest.next_attempt_at,
    oldest.attempts, oldest.destination, oldest.last_error AS reason, i.sop_instance_uid, i.study_instance_uid
FROM owed_targets AS r
CROSS JOIN LATERAL (
    SELECT * FROM (
        (SELECT * FROM deliveries WHERE route = r.route AND target = r.target AND state = 'pending'
         ORDER BY next_attempt_at LIMIT %(limit)s)
        UNION ALL
        (SELECT * FROM deliveries WHERE route = r.route AND target = r.target AND state = 'pending'
         ORDER BY next_attempt_at DESC LIMIT %(limit)s)
    ) AS ends
    ORDER BY ends.owed_since, ends.id LIMIT 1
) AS oldest
CROSS JOIN LATERAL (SELECT * FROM instances WHERE id = oldest.instance_id LIMIT 1) AS i
ORDER BY r.route, r.target;

-- name: dead_reasons
-- The commonest reasons among some of the dead, with one delivery of each to look at.
WITH RECURSIVE {fragment:owed_targets}
SELECT d.route::text, d.target, d.destination, d.last_error AS reason, count(*), max(d.id) AS delivery_id
FROM owed_targets AS r
CROSS JOIN LATERAL (
    SELECT * FROM deliveries WHERE route = r.route AND target = r.target AND state = 'dead' LIMIT %(limit)s) AS d
GROUP BY d.route, d.target, d.destination, d.last_error
ORDER BY count(*) DESC, max(d.id) DESC
LIMIT %(reasons)s;

-- name: applications
-- The configured applications: they have no row of their own in `destinations`.
SELECT DISTINCT application FROM application_workers ORDER BY application;

-- name: results
-- Results that are expected of workers, and those that came late, unmatched or ambiguous; each count up to a limit.
SELECT
    (SELECT count(*) FROM (SELECT FROM expected_results WHERE state = 'owed' LIMIT %(limit)s) AS x) AS owed,
    (SELECT count(*) FROM (SELECT FROM expected_results WHERE state = 'timed_out' LIMIT %(limit)s) AS x) AS timed_out,
    (SELECT count(*) FROM (
        SELECT FROM (SELECT DISTINCT delivery_id FROM (
            SELECT delivery_id FROM expected_results WHERE state = 'timed_out' LIMIT %(limit)s) AS t) AS late
        JOIN deliveries d ON d.id = late.delivery_id AND d.state NOT IN ('pending', 'in_flight', 'cancelled')
        WHERE NOT EXISTS (SELECT FROM expected_results o WHERE o.delivery_id = d.id AND o.state <> 'timed_out')
    ) AS x) AS given_up,
    (SELECT count(*) FROM (SELECT FROM instances
        WHERE late AND (late OR correlation IN ('ambiguous', 'unmatched')) LIMIT %(limit)s) AS x) AS late,
    (SELECT count(*) FROM (SELECT FROM instances WHERE correlation = 'unmatched'
        AND (late OR correlation IN ('ambiguous', 'unmatched')) LIMIT %(limit)s) AS x) AS unmatched,
    (SELECT count(*) FROM (SELECT FROM instances WHERE correlation = 'ambiguous'
        AND (late OR correlation IN ('ambiguous', 'unmatched')) LIMIT %(limit)s) AS x) AS ambiguous;

-- name: unforwarded
-- Instances whose repeat was not forwarded lately to an archive (if there is none, to an application), and that were not
-- requeued for it since; with the last of these repeats.
SELECT count(*) OVER () AS count, x.study_instance_uid, x.unforwarded_from AS calling_ae_title, x.unforwarded_at AS at, x.route
FROM (
    SELECT i.study_instance_uid, i.unforwarded_from, i.unforwarded_at, missed.route FROM instances i
    CROSS JOIN LATERAL (
        SELECT d.route::text FROM deliveries d
        WHERE d.instance_id = i.id AND d.state = 'delivered' AND d.owed_since <= i.unforwarded_at
            AND (d.route <> 'workers' OR NOT EXISTS (
                SELECT FROM deliveries a WHERE a.instance_id = i.id AND a.route <> 'workers'))
        ORDER BY d.route LIMIT 1) AS missed
    WHERE i.unforwarded_at > now() - %(window)s
    ORDER BY i.unforwarded_at DESC LIMIT %(limit)s) AS x
ORDER BY x.unforwarded_at DESC LIMIT 1;

-- name: rates
-- What the actors of each queue did over the last minutes; each process adds to it every few seconds.
SELECT labels ->> 'queue' AS queue_name, coalesce(sum(amount) FILTER (WHERE name = 'messages_done'), 0)::bigint AS done,
    coalesce(sum(amount) FILTER (WHERE name = 'messages_failed'), 0)::bigint AS failed,
    coalesce(sum(amount) FILTER (WHERE name = 'message_seconds'), 0)::float8 AS seconds
FROM counter_minutes
WHERE minute > now() - %(window)s AND name IN ('messages_done', 'messages_failed', 'message_seconds')
GROUP BY 1 ORDER BY 1;

-- name: received
-- Instances kept over the last minute.
SELECT count(*) FROM (SELECT FROM instances WHERE received_at > now() - interval '1 minute' LIMIT %(limit)s) AS x;

-- name: dead_messages
SELECT count(*) FROM (SELECT FROM dramatiq.queue WHERE state = 'rejected' LIMIT %(limit)s) AS x;

-- name: receivers
-- A receiver holds a connection with this application name as long as it lives. With the time of PostgreSQL.
SELECT count(*) AS receivers, now() FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'mini-pacs receiver';

-- name: unserved_queues
-- Queues with messages that are due for longer than `grace` and that no living process consumes. The recursion reads one
-- entry of the claim's index per queue. Messages that must run alone have a small index of their own.
WITH RECURSIVE names AS (
    (SELECT q.queue_name, 1 AS n FROM dramatiq.queue AS q
     WHERE q.state = 'queued' AND NOT q.alone ORDER BY q.queue_name LIMIT 1)
    UNION ALL
    SELECT (SELECT q.queue_name FROM dramatiq.queue AS q
            WHERE q.state = 'queued' AND NOT q.alone AND q.queue_name > names.queue_name
            ORDER BY q.queue_name LIMIT 1), names.n + 1
    FROM names WHERE names.queue_name IS NOT NULL AND names.n < %(names)s
), waiting AS (
    SELECT names.queue_name,
        (SELECT min(first.due) FROM generate_series(-1, 7) AS level (priority)
         CROSS JOIN LATERAL (
            SELECT q.due FROM dramatiq.queue AS q
            WHERE q.queue_name = names.queue_name AND q.state = 'queued' AND NOT q.alone
                AND q.priority = level.priority AND q.due <= now()
            ORDER BY q.due LIMIT 1) AS first) AS due,
        (SELECT count(*) FROM (
            SELECT FROM dramatiq.queue AS q
            WHERE q.queue_name = names.queue_name AND q.state = 'queued' AND NOT q.alone AND q.due <= now()
            LIMIT %(limit)s) AS x) AS count
    FROM names WHERE names.queue_name IS NOT NULL
    UNION ALL
    SELECT q.queue_name, min(q.due), count(*) FROM dramatiq.queue AS q
    WHERE q.state = 'queued' AND q.alone AND q.due <= now() GROUP BY q.queue_name
)
SELECT w.queue_name, sum(w.count)::bigint AS due,
    extract(epoch FROM now() - min(greatest(w.due, 'epoch')))::float8 AS oldest_seconds
FROM waiting AS w
WHERE NOT EXISTS (SELECT FROM dramatiq.consumers AS c JOIN dramatiq.live ON live.id = c.id
                  WHERE w.queue_name = ANY (c.queues))
GROUP BY w.queue_name
HAVING min(w.due) < now() - %(grace)s
ORDER BY w.queue_name;
