-- Dead messages, and messages of a queue that no process consumes: operators queue them again, or delete them.

-- name: dead
-- The newest dead messages, for operators. The document may be anything, and of any size.
SELECT q.message_id::text, q.queue_name, left(coalesce(q.message ->> 'actor_name', ''), 200) AS actor_name,
    CASE WHEN pg_column_size(q.message) <= 65536 AND jsonb_typeof(q.message -> 'args') = 'array'
        THEN (q.message -> 'args')::text END AS args, q.delivery_id, q.mtime AS since, q.deaths, q.failures, q.reason
FROM dramatiq.queue AS q
WHERE q.state = 'rejected'
    AND (%(queue_name)s::text IS NULL OR q.queue_name = %(queue_name)s)
    AND (%(since)s::timestamptz IS NULL OR (q.mtime, q.message_id) < (%(since)s, %(message_id)s::uuid))
ORDER BY q.mtime DESC, q.message_id DESC
LIMIT %(limit)s;

-- name: oldest_dead
-- Ids of messages that were dead at that time, the oldest first.
SELECT message_id::text FROM dramatiq.queue WHERE state = 'rejected' AND mtime <= %(until)s
ORDER BY mtime, message_id LIMIT %(limit)s;

-- name: requeue_dead
-- rejected -> queued, with no deaths and failures, by an operator.
UPDATE dramatiq.queue
SET state = 'queued', deaths = 0, failures = 0, alone = false, freed_from = NULL, never_ahead = false, due = now(),
    mtime = now()
WHERE state = 'rejected' AND (%(message_ids)s::uuid[] IS NULL OR message_id = ANY(%(message_ids)s::uuid[]))
RETURNING queue_name;

-- name: count_up_to
SELECT count(*) FROM (
    SELECT FROM dramatiq.queue WHERE state = 'rejected' AND (%(queue_name)s::text IS NULL OR queue_name = %(queue_name)s)
    LIMIT %(limit)s) AS x;

-- name: count_dead
SELECT count(*) FROM dramatiq.queue
WHERE state = 'rejected' AND (%(message_ids)s::uuid[] IS NULL OR message_id = ANY(%(message_ids)s::uuid[]));

-- name: discard_dead
-- rejected -> deleted, by an operator; says whether its delivery stays dead.
DELETE FROM dramatiq.queue AS q
WHERE q.state = 'rejected' AND (%(message_ids)s::uuid[] IS NULL OR q.message_id = ANY(%(message_ids)s::uuid[]))
RETURNING q.message_id::text,
    EXISTS (SELECT FROM deliveries AS d WHERE d.id = q.delivery_id AND d.state = 'dead') AS leaves_dead;

-- name: clear
-- rejected -> deleted, for all messages of some actors of a queue: a later message did their work.
DELETE FROM dramatiq.queue
WHERE state = 'rejected' AND queue_name = %(queue_name)s AND message ->> 'actor_name' = ANY (%(actor_names)s::text[]);

-- name: count_unserved
-- How many messages wait in a queue that no living process consumes.
SELECT count(*) FROM dramatiq.queue AS q
WHERE q.queue_name = %(queue_name)s AND q.state = 'queued' AND NOT EXISTS (
    SELECT FROM dramatiq.consumers AS c JOIN dramatiq.live ON live.id = c.id WHERE q.queue_name = ANY (c.queues));

-- name: discard_unserved
-- queued -> deleted, by an operator, if no living process consumes the queue.
DELETE FROM dramatiq.queue AS q
WHERE q.queue_name = %(queue_name)s AND q.state = 'queued' AND NOT EXISTS (
    SELECT FROM dramatiq.consumers AS c JOIN dramatiq.live ON live.id = c.id WHERE q.queue_name = ANY (c.queues))
RETURNING q.message_id::text, false AS leaves_dead;
