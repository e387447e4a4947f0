-- Messages that wait and run in each queue, its rates, and the processes that consume it.

-- name: depths
-- What waits, runs or is dead, by queue; the age counts from the time at which a message was due.
SELECT q.queue_name, q.state::text, count(*), count(*) FILTER (WHERE q.state = 'queued' AND q.due > now()) AS later,
    extract(epoch FROM now() - min(q.due) FILTER (WHERE q.state <> 'queued' OR q.due <= now()))::float8 AS oldest_seconds
FROM dramatiq.queue AS q
GROUP BY q.queue_name, q.state
ORDER BY q.queue_name, q.state;

-- name: bounded_depths
-- As `depths`, but each count stops at a limit. The recursions read one index entry for each queue. `recent`: how many of
-- those that wait came due within the window.
WITH RECURSIVE waiting AS (
    (SELECT q.queue_name, 1 AS n FROM dramatiq.queue AS q
     WHERE q.state = 'queued' AND NOT q.alone ORDER BY q.queue_name LIMIT 1)
    UNION ALL
    SELECT (SELECT q.queue_name FROM dramatiq.queue AS q
            WHERE q.state = 'queued' AND NOT q.alone AND q.queue_name > w.queue_name ORDER BY q.queue_name LIMIT 1), w.n + 1
    FROM waiting AS w WHERE w.queue_name IS NOT NULL AND w.n < %(names)s
), dead AS (
    (SELECT q.queue_name, 1 AS n FROM dramatiq.queue AS q WHERE q.state = 'rejected' ORDER BY q.queue_name LIMIT 1)
    UNION ALL
    SELECT (SELECT q.queue_name FROM dramatiq.queue AS q
            WHERE q.state = 'rejected' AND q.queue_name > w.queue_name ORDER BY q.queue_name LIMIT 1), w.n + 1
    FROM dead AS w WHERE w.queue_name IS NOT NULL AND w.n < %(names)s
), counted AS (
    SELECT w.queue_name, 'queued' AS state, c.count, c.later, c.recent, c.oldest
    FROM waiting AS w CROSS JOIN LATERAL (
        SELECT count(*) AS count, count(*) FILTER (WHERE x.due > now()) AS later,
            count(*) FILTER (WHERE x.due > now() - %(window)s::interval AND x.due <= now()) AS recent,
            min(x.due) FILTER (WHERE x.due <= now()) AS oldest
        FROM (SELECT q.due FROM dramatiq.queue AS q
              WHERE q.queue_name = w.queue_name AND q.state = 'queued' AND NOT q.alone LIMIT %(limit)s) AS x) AS c
    WHERE w.queue_name IS NOT NULL
    UNION ALL
    SELECT w.queue_name, 'rejected', c.count, 0, 0, c.oldest
    FROM dead AS w CROSS JOIN LATERAL (
        SELECT count(*) AS count, min(x.mtime) AS oldest FROM (
            SELECT q.mtime FROM dramatiq.queue AS q
            WHERE q.queue_name = w.queue_name AND q.state = 'rejected' LIMIT %(limit)s) AS x) AS c
    WHERE w.queue_name IS NOT NULL
    UNION ALL
    SELECT q.queue_name, q.state::text, count(*), count(*) FILTER (WHERE q.due > now()), 0, min(q.due)
    FROM dramatiq.queue AS q
    WHERE q.state = 'consumed' OR (q.state = 'queued' AND q.alone) GROUP BY q.queue_name, q.state
)
SELECT c.queue_name, c.state, sum(c.count)::bigint AS count, sum(c.later)::bigint AS later, sum(c.recent)::bigint AS recent,
    extract(epoch FROM now() - min(c.oldest))::float8 AS oldest_seconds
FROM counted AS c GROUP BY c.queue_name, c.state ORDER BY c.queue_name, c.state;

-- name: finished
-- What actors finished over the last minutes, by queue; `arrived` is what of it came due in that time.
SELECT c.labels ->> 'queue' AS queue_name,
    coalesce(sum(c.amount) FILTER (WHERE c.name = 'messages_arrived'), 0)::bigint AS arrived,
    coalesce(sum(c.amount) FILTER (WHERE c.name = 'messages_done'), 0)::bigint AS done,
    coalesce(sum(c.amount) FILTER (WHERE c.name = 'messages_failed'), 0)::bigint AS failed,
    coalesce(sum(c.amount) FILTER (WHERE c.name = 'message_seconds'), 0)::float8 AS seconds
FROM counter_minutes AS c
WHERE c.minute > now() - %(window)s::interval
    AND c.name IN ('messages_arrived', 'messages_done', 'messages_failed', 'message_seconds')
GROUP BY 1 ORDER BY 1;

-- name: rates
-- Over the last minutes. Messages that came due and still wait are counted in the queue itself.
WITH finished AS (
    SELECT c.labels ->> 'queue' AS queue_name,
        sum(c.amount) FILTER (WHERE c.name = 'messages_arrived') AS arrived,
        sum(c.amount) FILTER (WHERE c.name = 'messages_done') AS done,
        sum(c.amount) FILTER (WHERE c.name = 'messages_failed') AS failed,
        sum(c.amount) FILTER (WHERE c.name = 'message_seconds') AS seconds
    FROM counter_minutes AS c
    WHERE c.minute > now() - %(window)s
        AND c.name IN ('messages_arrived', 'messages_done', 'messages_failed', 'message_seconds')
    GROUP BY 1
), waiting AS (
    SELECT q.queue_name, count(*) AS arrived
    FROM dramatiq.queue AS q
    WHERE q.due > now() - %(window)s AND q.due <= now()
    GROUP BY q.queue_name
)
SELECT queue_name, coalesce(f.arrived, 0)::bigint + coalesce(w.arrived, 0)::bigint AS arrived,
    coalesce(f.done, 0)::bigint AS done, coalesce(f.failed, 0)::bigint AS failed, coalesce(f.seconds, 0)::float8 AS seconds
FROM finished AS f FULL JOIN waiting AS w USING (queue_name)
ORDER BY queue_name;

-- name: consumers
-- Every consumer with what it holds; one without its lock is dead, or lost its connection a moment ago.
SELECT c.id, c.host, c.pid, c.queues AS queue_names, c.threads, c.started_at, dramatiq.consumer_alive(c.id) AS alive,
    count(q.message_id) AS holds, extract(epoch FROM now() - min(q.started_at))::float8 AS oldest_seconds
FROM dramatiq.consumers AS c
LEFT JOIN dramatiq.queue AS q ON q.consumer = c.id AND q.state = 'consumed'
GROUP BY c.id
ORDER BY c.host, c.pid;

-- name: vacuum
-- Removes the index entries of finished messages; skipped while another VACUUM runs.
VACUUM (ANALYZE, SKIP_LOCKED) dramatiq.queue;
