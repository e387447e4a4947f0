-- The figures of `mini-pacs metrics`. Every statement reads counters, an index up to a limit, or a table that stays small: a
-- scrape must stay fast with a million deliveries kept.

-- name: deadline
-- Until the end of the transaction.
SELECT set_config('statement_timeout', %(milliseconds)s::text, true);

-- name: fold
-- Move what the transactions counted into the counters (see functions/fold_counts.sql).
SELECT fold_counts(%(duration_bounds)s::float8[], %(long_bounds)s::float8[], %(titles)s);

-- name: last_successes
SELECT destination, extract(epoch FROM succeeded_at)::float8 AS succeeded_at FROM last_successes;

-- name: unsettled
-- The deliveries that are not completed, from the index of the unsettled ones, each count up to a limit.
SELECT t.target, s.state::text, (
    SELECT count(*) FROM (
        SELECT FROM deliveries d WHERE d.route = t.route AND d.target = t.target AND d.state = s.state
            AND d.state IN ('collecting', 'pending', 'in_flight', 'dead') LIMIT %(limit)s) AS x) AS count
FROM unnest(%(routes)s::route[], %(targets)s::text[]) AS t (route, target)
CROSS JOIN unnest(ARRAY['collecting', 'pending', 'in_flight', 'dead']::delivery_state[]) AS s (state);

-- name: oldest_pending
-- Per target the age of the oldest pending delivery, among those that are due first and those that are due last. If few
-- wait, that is all of them.
SELECT t.target, coalesce(extract(epoch FROM now() - oldest.owed_since), 0)::float8 AS seconds
FROM unnest(%(routes)s::route[], %(targets)s::text[]) AS t (route, target)
CROSS JOIN LATERAL (
    SELECT min(owed_since) AS owed_since FROM (
        (SELECT owed_since FROM deliveries WHERE route = t.route AND target = t.target AND state = 'pending'
         ORDER BY next_attempt_at LIMIT %(limit)s)
        UNION ALL
        (SELECT owed_since FROM deliveries WHERE route = t.route AND target = t.target AND state = 'pending'
         ORDER BY next_attempt_at DESC LIMIT %(limit)s)
    ) AS ends) AS oldest;

-- name: queues
-- Messages by queue, how long the oldest due one waits, and the living processes that consume the queue.
SELECT q.name AS queue_name,
    (SELECT count(*) FROM (SELECT FROM dramatiq.queue m
        WHERE m.queue_name = q.name AND m.state = 'queued' AND NOT m.alone LIMIT %(limit)s) AS x)
    + (SELECT count(*) FROM dramatiq.queue m WHERE m.queue_name = q.name AND m.state = 'queued' AND m.alone) AS queued,
    (SELECT count(*) FROM dramatiq.queue m WHERE m.queue_name = q.name AND m.state = 'consumed') AS consumed,
    (SELECT count(*) FROM (SELECT FROM dramatiq.queue m
        WHERE m.queue_name = q.name AND m.state = 'rejected' LIMIT %(limit)s) AS x) AS dead,
    coalesce((SELECT extract(epoch FROM now() - min(first.due)) FROM generate_series(-1, 7) AS level (priority)
        CROSS JOIN LATERAL (
            SELECT m.due FROM dramatiq.queue m
            WHERE m.queue_name = q.name AND m.state = 'queued' AND NOT m.alone AND m.priority = level.priority AND m.due <= now()
            ORDER BY m.due LIMIT 1) AS first), 0)::float8 AS latency_seconds,
    (SELECT count(*) FROM dramatiq.consumers c JOIN dramatiq.live ON live.id = c.id WHERE q.name = ANY (c.queues)) AS consumers
FROM unnest(%(queues)s::text[]) AS q (name);

-- name: processes
-- The processes of the edge that live, with what they cost.
SELECT p.kind, p.serves, p.host, p.pid, extract(epoch FROM p.started_at)::float8 AS started_at, p.figures
FROM processes p WHERE p.beat_at > now() - %(silence)s::interval ORDER BY p.host, p.pid;
