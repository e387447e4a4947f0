-- name: prepare_claim
-- queued -> consumed, for this consumer alone, at most as many as the queue has room for; priority -1, the probe
-- that may open a closed route, needs no room. Per priority it walks the claim's index from the oldest due message
-- and stops at what is not yet due; what others are claiming is skipped. With nothing to claim it says instead in
-- how many seconds the next message is due. $4 holds, per priority from 0, a due time before which not to look:
-- finished entries there are walked by every claim until vacuum may remove them, which a long transaction of
-- anybody (a backup) forbids. The picked are named as an array, not joined: with statistics that take a full table for
-- an empty one (made before a large commit, or after a night was worked off) a join may begin with the whole table.
-- The first $5 are started at once. The others are claimed ahead, save those that were held so when a process died.
-- mtime is the time of the claim: with id and consumer it names this run of the message, see finish. What the client
-- could not read would fail every claim: a due time before 1970 is shown as 1970, a document of more than 4 MiB as NULL.
PREPARE claim (text, integer, bigint, timestamptz[], integer) AS
WITH room AS MATERIALIZED (
    SELECT dramatiq.room($1, $2) AS size
), ungated AS MATERIALIZED (
    SELECT q.message_id, q.priority, q.due, q.never_ahead
    FROM dramatiq.queue AS q
    WHERE q.queue_name = $1 AND q.state = 'queued' AND NOT q.alone AND q.priority = -1 AND q.due <= now()
    ORDER BY q.due
    LIMIT $2
    FOR UPDATE SKIP LOCKED
), gated AS MATERIALIZED (
    SELECT best.*
    FROM generate_series(0, 7) AS level (priority)
    CROSS JOIN LATERAL (
        SELECT q.message_id, q.priority, q.due, q.never_ahead
        FROM dramatiq.queue AS q
        WHERE q.queue_name = $1 AND q.state = 'queued' AND NOT q.alone
            AND q.priority = level.priority AND q.due <= now()
            AND q.due >= coalesce(($4)[level.priority + 1], '-infinity')
        ORDER BY q.due
        LIMIT (SELECT size FROM room)
        FOR UPDATE SKIP LOCKED
    ) AS best
    LIMIT (SELECT least(size, $2 - (SELECT count(*) FROM ungated)) FROM room)
), picked AS MATERIALIZED (
    SELECT best.message_id, best.never_ahead, row_number() OVER (ORDER BY priority, due, message_id) > $5 AS ahead
    FROM (SELECT * FROM ungated UNION ALL SELECT * FROM gated) AS best
), claimed AS (
    UPDATE dramatiq.queue AS q
    SET state = 'consumed', consumer = $3, mtime = now(),
        started_at = CASE WHEN q.message_id = ANY (ARRAY(SELECT message_id FROM picked WHERE NOT ahead)) THEN now() END
    WHERE q.message_id = ANY (ARRAY(SELECT message_id FROM picked WHERE NOT (ahead AND never_ahead)))
    RETURNING q.message_id::text, CASE WHEN pg_column_size(q.message) <= 4194304 THEN q.message::text END AS message,
        q.deaths, q.failures, q.priority, greatest(q.due, 'epoch') AS due, q.mtime AS claimed_at
)
SELECT c.*, NULL::float8 AS next_due_seconds FROM claimed AS c
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, extract(epoch FROM min(next.due) - now())::float8
FROM generate_series(-1, 7) AS level (priority)
CROSS JOIN LATERAL (
    SELECT q.due
    FROM dramatiq.queue AS q
    WHERE q.queue_name = $1 AND q.state = 'queued' AND NOT q.alone
        AND q.priority = level.priority AND q.due > now()
    ORDER BY q.due
    LIMIT 1
) AS next
WHERE NOT EXISTS (SELECT FROM claimed) AND (level.priority < 0 OR (SELECT size FROM room) > 0)
ORDER BY priority, due, message_id;

-- name: claim
-- The statement above, planned once for each connection.
EXECUTE claim (%(queue_name)s, %(wanted)s, %(consumer)s, %(floors)s, %(slots)s);

-- name: claim_exclusive
-- queued -> consumed, one message that may have killed its process twice. The caller runs nothing beside it.
UPDATE dramatiq.queue AS q
SET state = 'consumed', consumer = %(consumer)s, started_at = now(), mtime = now()
WHERE q.message_id = (
    SELECT s.message_id
    FROM dramatiq.queue AS s
    WHERE s.queue_name = %(queue_name)s AND s.state = 'queued' AND s.alone AND s.due <= now()
        AND (s.priority < 0 OR dramatiq.room(%(queue_name)s, 1) > 0)
    ORDER BY s.due
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING q.message_id::text, CASE WHEN pg_column_size(q.message) <= 4194304 THEN q.message::text END AS message,
    q.deaths, q.failures, q.priority, greatest(q.due, 'epoch') AS due, q.mtime AS claimed_at, NULL::float8 AS next_due_seconds;

-- name: waiting_exclusive
-- The queues in which a message waits that must run alone.
SELECT name FROM unnest(%(queue_names)s::text[]) AS name
WHERE EXISTS (
    SELECT FROM dramatiq.queue AS q
    WHERE q.queue_name = name AND q.state = 'queued' AND q.alone AND q.due <= now()
);

-- name: finish
-- consumed -> gone, only for the run that ended: the row still names the consumer and the time of the claim. A message
-- that was freed and claimed again, or enqueued again under its id while it ran, is not deleted by a late ack. A consumer
-- stands in consumed rows only (CHECK), and the state is not asked for beside it, here and below: the planner could take
-- the index of consumed messages then, where the entries of all that this consumer finished before are walked until
-- vacuum may remove them. One statement for each claim, whose messages have one time: an array of times costs more.
DELETE FROM dramatiq.queue
WHERE message_id = ANY(%(message_ids)s::uuid[]) AND consumer = %(consumer)s AND mtime = %(claimed_at)s;

-- name: give_back
-- consumed -> queued, unstarted: neither a failure nor a death.
UPDATE dramatiq.queue
SET state = 'queued', consumer = NULL, started_at = NULL, mtime = now()
WHERE message_id = ANY(%(message_ids)s::uuid[]) AND consumer = %(consumer)s AND mtime = %(claimed_at)s;

-- name: retry
-- consumed -> queued, due later: its actor raised, or the message itself asks for a later time. Repeated after a lost
-- answer it changes nothing, also where the same consumer has claimed the message again.
UPDATE dramatiq.queue
SET state = 'queued', consumer = NULL, started_at = NULL, mtime = now(),
    failures = least(failures + %(counted)s::integer, 32767), due = now() + %(delay)s, reason = %(reason)s
WHERE message_id = %(message_id)s AND consumer = %(consumer)s AND mtime = %(claimed_at)s;

-- name: dead_letter
-- consumed -> rejected: dead, with the reason, until an operator decides.
UPDATE dramatiq.queue
SET state = 'rejected', consumer = NULL, started_at = NULL, mtime = now(), failures = least(failures + 1, 32767),
    reason = %(reason)s
WHERE message_id = %(message_id)s AND consumer = %(consumer)s AND mtime = %(claimed_at)s;

-- name: enqueue
-- A message from Python, as Dramatiq's own Broker.enqueue means it: the same id again is the same message.
INSERT INTO dramatiq.queue (message_id, queue_name, message, due, priority)
VALUES (%(message_id)s, %(queue_name)s, %(message)s, now() + %(delay)s, %(priority)s)
ON CONFLICT (message_id) DO UPDATE
SET state = 'queued', queue_name = EXCLUDED.queue_name, message = EXCLUDED.message, due = EXCLUDED.due,
    priority = EXCLUDED.priority, consumer = NULL, started_at = NULL, mtime = now();

-- name: send
-- -> queued, in the caller's transaction: a message as Dramatiq would have written it.
SELECT dramatiq.send(
    %(queue_name)s, %(actor_name)s, %(args)s, %(priority)s, now() + %(delay)s, %(delivery_id)s
);

-- name: notify
-- Wakes the consumers that listen to these channels; it holds up the commits of all who notify, so it stands alone.
SELECT pg_notify(name, '') FROM unnest(%(channels)s::text[]) AS name;

-- name: configure_consumer
-- Claims and acks may be lost in a crash of PostgreSQL: a harmless repeat. The keepalives are the server's side:
-- a client whose network swallows packets loses its lock after 2 + 3 x 1 s. The claim's plan must not be one
-- made for an empty table and kept for a full one, so it may use its index only.
SET synchronous_commit TO off;
SET tcp_keepalives_idle TO 2;
SET tcp_keepalives_interval TO 1;
SET tcp_keepalives_count TO 3;
SET tcp_user_timeout TO 5000;
SET enable_seqscan TO off;
SET enable_bitmapscan TO off;
SET plan_cache_mode TO force_generic_plan;

-- name: lock
-- The proof that a consumer lives, held as long as its connection. Not waited for: an id that is taken is not ours.
SELECT pg_try_advisory_lock(%(consumer)s) AS is_ours, pg_backend_pid() AS server_process;

-- name: backend
-- Which server process answers: another one than before, behind a pooler in transaction mode.
SELECT pg_backend_pid();

-- name: register
-- After the lock: a row without a lock is a dead consumer.
INSERT INTO dramatiq.consumers (id, host, pid, queues, threads, stopping_since)
VALUES (%(consumer)s, %(host)s, %(pid)s, %(queue_names)s, %(threads)s, CASE WHEN %(stopping)s THEN now() END);

-- name: serve
-- What a consumer consumes is shown to operators; nothing is decided by it.
UPDATE dramatiq.consumers SET queues = %(queue_names)s WHERE id = %(consumer)s;

-- name: stop
-- A consumer begins its orderly shutdown: from here on its end counts against none of the messages that it holds.
UPDATE dramatiq.consumers SET stopping_since = coalesce(stopping_since, now()) WHERE id = %(consumer)s;

-- name: unregister
-- A consumer that holds nothing any more takes its row with it; else the row stays for the reaper.
DELETE FROM dramatiq.consumers AS c
WHERE c.id = %(consumer)s
    AND NOT EXISTS (SELECT FROM dramatiq.queue AS q WHERE q.consumer = c.id AND q.state = 'consumed');

-- name: adopt
-- consumed -> consumed by the same process under its new id: its connection was lost, its threads still run them. Their
-- deliveries stay theirs, too: with the lost id in claimed_by, whoever comes could claim them at once. But no other
-- delivery: one whose claim was committed while its answer was lost is nobody's, and under a living id it would
-- wait for its lease. What else stands under the lost ids was never started here (the answer of its claim was
-- lost) or has ended (its ack is under way): freed, it counts no death.
WITH runs AS MATERIALIZED (
    SELECT * FROM unnest(%(message_ids)s::uuid[], %(claimed_at)s::timestamptz[]) AS r (message_id, claimed_at)
), adopted AS (
    UPDATE dramatiq.queue AS q
    SET consumer = CASE WHEN (q.message_id, q.mtime) IN (SELECT * FROM runs) THEN %(consumer)s ELSE q.consumer END,
        started_at = CASE WHEN (q.message_id, q.mtime) IN (SELECT * FROM runs) THEN q.started_at END
    WHERE q.consumer = ANY(%(lost)s::bigint[]) AND q.state = 'consumed'
    RETURNING q.message_id, q.mtime, q.consumer, q.delivery_id
), renamed AS (
    UPDATE deliveries AS d
    SET claimed_by = %(consumer)s
    WHERE d.id = ANY (ARRAY(SELECT delivery_id FROM adopted WHERE consumer = %(consumer)s))
        AND d.state = 'in_flight' AND d.claimed_by = ANY(%(lost)s::bigint[])
)
SELECT message_id::text, mtime AS claimed_at FROM adopted WHERE consumer = %(consumer)s;

-- name: undo_deaths
-- rejected | queued | consumed -> one death less: the consumer was taken for dead and was not.
UPDATE dramatiq.queue
SET deaths = deaths - 1, alone = deaths - 1 >= %(alone_deaths)s, freed_from = NULL,
    state = CASE WHEN state = 'rejected' THEN 'queued' ELSE state END
WHERE message_id = ANY(%(message_ids)s::uuid[]) AND freed_from = ANY(%(lost)s::bigint[]) AND deaths > 0;

-- name: missing
-- Consumers that stand in the table without a lock.
SELECT c.id FROM dramatiq.consumers AS c WHERE c.id NOT IN (SELECT live.id FROM dramatiq.live);

-- name: reap
-- consumed -> queued | rejected, for the messages of consumers that were missed before and have no lock now either.
-- Who reaps deletes the consumer's row in the same transaction; others skip it. What was claimed ahead may not
-- have been started: its death is not counted, but it is not claimed ahead again. Nor is the end of a consumer counted
-- that was stopping: it was killed when its grace was over, whatever it ran.
WITH gone AS MATERIALIZED (
    SELECT c.id, c.host, c.pid, c.stopping_since IS NOT NULL AS stopping
    FROM dramatiq.consumers AS c
    WHERE c.id = ANY(%(missed)s::bigint[]) AND c.id NOT IN (SELECT live.id FROM dramatiq.live)
    FOR UPDATE SKIP LOCKED
), cleared AS (
    DELETE FROM dramatiq.consumers AS c USING gone WHERE c.id = gone.id
), freed AS (
    UPDATE dramatiq.queue AS q
    SET state = CASE WHEN q.deaths + (q.started_at IS NOT NULL AND NOT gone.stopping)::integer >= %(poison_deaths)s
            THEN 'rejected' ELSE 'queued' END::dramatiq.state,
        deaths = least(q.deaths + (q.started_at IS NOT NULL AND NOT gone.stopping)::integer, 32767),
        alone = q.deaths + (q.started_at IS NOT NULL AND NOT gone.stopping)::integer >= %(alone_deaths)s,
        freed_from = CASE WHEN (q.started_at IS NOT NULL AND NOT gone.stopping) THEN q.consumer ELSE q.freed_from END,
        never_ahead = q.never_ahead OR (q.started_at IS NULL AND NOT gone.stopping),
        consumer = NULL, started_at = NULL, mtime = now(),
        reason = CASE WHEN (q.started_at IS NOT NULL AND NOT gone.stopping)
            THEN format('process %%s on %%s died while running it (death %%s)', gone.pid, gone.host, q.deaths + 1)
            ELSE q.reason END
    FROM gone
    WHERE q.consumer = gone.id AND q.state = 'consumed'
    RETURNING gone.id, q.state
)
SELECT gone.host, gone.pid, count(freed.id) AS freed, count(freed.id) FILTER (WHERE freed.state = 'rejected') AS dead_lettered,
    gone.stopping
FROM gone LEFT JOIN freed ON freed.id = gone.id
GROUP BY gone.id, gone.host, gone.pid, gone.stopping;

-- name: count_rates
-- Adds what this process finished since it last said.
INSERT INTO dramatiq.rates AS r (minute, queue_name, actor_name, arrived, done, failed, seconds)
SELECT to_timestamp(minute * 60), queue_name, actor_name, arrived, done, failed, seconds
FROM unnest(
    %(minutes)s::bigint[], %(queue_names)s::text[], %(actor_names)s::text[],
    %(arrived)s::bigint[], %(done)s::bigint[], %(failed)s::bigint[], %(seconds)s::float8[]
) AS new (minute, queue_name, actor_name, arrived, done, failed, seconds)
-- in one order for all processes, which else could wait for each other's rows
ORDER BY minute, queue_name, actor_name
ON CONFLICT (minute, queue_name, actor_name) DO UPDATE
SET arrived = r.arrived + EXCLUDED.arrived, done = r.done + EXCLUDED.done,
    failed = r.failed + EXCLUDED.failed, seconds = r.seconds + EXCLUDED.seconds;

-- name: forget_rates
-- A day of minutes is what the screen may ask for.
DELETE FROM dramatiq.rates WHERE minute < now() - interval '1 day';

-- name: depths
-- What waits, runs or is dead, by queue; how old is asked of what is due.
SELECT q.queue_name, q.state::text, count(*), count(*) FILTER (WHERE q.state = 'queued' AND q.due > now()) AS later,
    extract(epoch FROM now() - min(q.due) FILTER (WHERE q.state <> 'queued' OR q.due <= now()))::float8 AS oldest_seconds
FROM dramatiq.queue AS q
GROUP BY q.queue_name, q.state
ORDER BY q.queue_name, q.state;

-- name: rates
-- Per minute over the last minutes. What came due and still waits is counted where it stands.
WITH finished AS (
    SELECT r.queue_name, sum(r.arrived) AS arrived, sum(r.done) AS done, sum(r.failed) AS failed,
        sum(r.seconds) AS seconds
    FROM dramatiq.rates AS r
    WHERE r.minute > now() - %(window)s
    GROUP BY r.queue_name
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
-- Every consumer with what it holds; one without its lock is dead, or cut off a moment ago.
SELECT c.id, c.host, c.pid, c.queues AS queue_names, c.threads, c.started_at, dramatiq.consumer_alive(c.id) AS alive,
    count(q.message_id) AS holds, extract(epoch FROM now() - min(q.started_at))::float8 AS oldest_seconds
FROM dramatiq.consumers AS c
LEFT JOIN dramatiq.queue AS q ON q.consumer = c.id AND q.state = 'consumed'
GROUP BY c.id
ORDER BY c.host, c.pid;

-- name: dead
-- The messages that died last, with what an operator needs to decide. The document may be anything, and of any size.
SELECT q.message_id::text, q.queue_name, left(coalesce(q.message ->> 'actor_name', ''), 200) AS actor_name,
    CASE WHEN pg_column_size(q.message) <= 65536 AND jsonb_typeof(q.message -> 'args') = 'array'
        THEN (q.message -> 'args')::text END AS args, q.delivery_id, q.mtime AS since, q.deaths, q.failures, q.reason
FROM dramatiq.queue AS q
WHERE q.state = 'rejected'
    AND (%(since)s::timestamptz IS NULL OR (q.mtime, q.message_id) < (%(since)s, %(message_id)s::uuid))
ORDER BY q.mtime DESC, q.message_id DESC
LIMIT %(limit)s;

-- name: requeue_dead
-- rejected -> queued, with a clean record, by an operator.
UPDATE dramatiq.queue
SET state = 'queued', deaths = 0, failures = 0, alone = false, freed_from = NULL, never_ahead = false, due = now(),
    mtime = now()
WHERE state = 'rejected' AND (%(message_ids)s::uuid[] IS NULL OR message_id = ANY(%(message_ids)s::uuid[]))
RETURNING queue_name;

-- name: count_dead
SELECT count(*) FROM dramatiq.queue
WHERE state = 'rejected' AND (%(message_ids)s::uuid[] IS NULL OR message_id = ANY(%(message_ids)s::uuid[]));

-- name: discard_dead
-- rejected -> gone, by an operator; says whether a delivery stays dead without it.
DELETE FROM dramatiq.queue AS q
WHERE q.state = 'rejected' AND (%(message_ids)s::uuid[] IS NULL OR q.message_id = ANY(%(message_ids)s::uuid[]))
RETURNING q.message_id::text,
    EXISTS (SELECT FROM deliveries AS d WHERE d.id = q.delivery_id AND d.state = 'dead') AS leaves_dead;

-- name: count_unserved
-- What waits in a queue that no living process consumes.
SELECT count(*) FROM dramatiq.queue AS q
WHERE q.queue_name = %(queue_name)s AND q.state = 'queued' AND NOT EXISTS (
    SELECT FROM dramatiq.consumers AS c JOIN dramatiq.live ON live.id = c.id WHERE q.queue_name = ANY (c.queues));

-- name: discard_unserved
-- queued -> gone, by an operator, where no living process consumes the queue.
DELETE FROM dramatiq.queue AS q
WHERE q.queue_name = %(queue_name)s AND q.state = 'queued' AND NOT EXISTS (
    SELECT FROM dramatiq.consumers AS c JOIN dramatiq.live ON live.id = c.id WHERE q.queue_name = ANY (c.queues))
RETURNING q.message_id::text, false AS leaves_dead;

-- name: vacuum
-- Finished entries at the front of the claim's index go; skipped where somebody vacuums already.
VACUUM (ANALYZE, SKIP_LOCKED) dramatiq.queue;

-- name: relax_durability
-- For a connection that only acks: a lost one is a harmless repeat.
SET synchronous_commit TO off;
