-- name: prepare_claim
-- queued -> consumed, for one consumer, at most as many as the route has capacity for: see the fragment claimed_messages.
-- next_due_seconds says in how many seconds the next message is due: 0 if more may be due now, NULL if none waits. If nothing
-- is claimed, the one row says only that.
PREPARE claim (text, integer, bigint, timestamptz[], integer) AS
{fragment:claimed_messages}
SELECT c.message_id, c.message, c.deaths, c.failures, c.priority, c.due, c.claimed_at, next.seconds AS next_due_seconds
FROM (SELECT {fragment:seconds_to_next_message} AS seconds) AS next LEFT JOIN claimed AS c ON true
ORDER BY c.priority, c.due, c.message_id;

-- name: prepare_claim_with_deliveries
-- The same for the queue of an archive, and pending -> in_flight for the deliveries of these messages, so that an actor needs
-- no statement before it sends. $6 is the AE title of the archive, $7 the lease. The other deliveries are claimed by their actor: one
-- whose UID has several versions, and one that is locked, not due, or in flight. SKIP LOCKED: a claim of messages
-- waits for no transaction.
PREPARE claim_with_deliveries (text, integer, bigint, timestamptz[], integer, text, interval) AS
{fragment:claimed_messages}
, held AS (
    UPDATE deliveries AS d
    SET state = 'in_flight', claim_id = gen_random_uuid(), claimed_by = $3, lease_until = now() + $7, next_attempt_at = NULL,
        destination = $6
    FROM instances AS i
    WHERE d.id = ANY (ARRAY(
            SELECT x.id FROM deliveries AS x
            WHERE x.id = ANY (ARRAY(SELECT claimed.delivery_id FROM claimed WHERE claimed.delivery_id IS NOT NULL))
                AND x.state IN ({from_states:claim}) AND x.next_attempt_at <= now() + interval '1 second'
                AND (x.route = 'pacs' OR x.target = $6)
            FOR NO KEY UPDATE SKIP LOCKED))
        AND i.id = d.instance_id AND NOT i.versioned
    RETURNING {fragment:claimed_delivery}, {fragment:stored_instance}
)
SELECT c.message_id, c.message, c.deaths, c.failures, c.priority, c.due, c.claimed_at, next.seconds AS next_due_seconds,
    {fragment:held_delivery}
FROM (SELECT {fragment:seconds_to_next_message} AS seconds) AS next
LEFT JOIN claimed AS c ON true LEFT JOIN held AS h ON h.delivery_id = c.delivery_id
ORDER BY c.priority, c.due, c.message_id;

-- name: prepare_claim_with_workers
-- The same for the queue of an application, whose deliveries are claimed for its workers (see functions/claim_for_workers.sql).
-- $6 is the name of the application, $7 the lease, $8 the time that a worker has for its result, $9 and $10 the actor and the
-- queue of the message that runs then.
PREPARE claim_with_workers (text, integer, bigint, timestamptz[], integer, text, interval, interval, text, text) AS
{fragment:claimed_messages}
, held AS (
    SELECT {fragment:claimed_delivery}, {fragment:stored_instance}
    FROM claim_for_workers(
        ARRAY(SELECT claimed.delivery_id FROM claimed WHERE claimed.delivery_id IS NOT NULL
              ORDER BY claimed.priority, claimed.due, claimed.message_id),
        $6, $3, $7, $8, $9, $10) AS d
    -- OFFSET 0 keeps it from becoming a join, which could read the whole table.
    CROSS JOIN LATERAL (SELECT * FROM instances AS x WHERE x.id = d.instance_id OFFSET 0) AS i
)
SELECT c.message_id, c.message, c.deaths, c.failures, c.priority, c.due, c.claimed_at, next.seconds AS next_due_seconds,
    {fragment:held_delivery}
FROM (SELECT {fragment:seconds_to_next_message} AS seconds) AS next
LEFT JOIN claimed AS c ON true LEFT JOIN held AS h ON h.delivery_id = c.delivery_id
ORDER BY c.priority, c.due, c.message_id;

-- name: claim
-- The statement `prepare_claim`, planned once for each connection.
EXECUTE claim (%(queue_name)s, %(wanted)s, %(consumer)s, %(floors)s, %(slots)s);

-- name: claim_with_deliveries
-- The statement `prepare_claim_with_deliveries`, planned once for each connection.
EXECUTE claim_with_deliveries (%(queue_name)s, %(wanted)s, %(consumer)s, %(floors)s, %(slots)s, %(destination)s, %(lease)s);

-- name: claim_with_workers
-- The statement `prepare_claim_with_workers`, planned once for each connection.
EXECUTE claim_with_workers (
    %(queue_name)s, %(wanted)s, %(consumer)s, %(floors)s, %(slots)s, %(application)s, %(lease)s, %(result_wait)s,
    %(expire_actor_name)s, %(expire_queue)s);

-- name: claim_exclusive
-- queued -> consumed, one message whose process died twice while it ran. The caller runs no other beside it.
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
-- The queues in which a message is due that must run alone.
SELECT name FROM unnest(%(queue_names)s::text[]) AS name
WHERE EXISTS (
    SELECT FROM dramatiq.queue AS q
    WHERE q.queue_name = name AND q.state = 'queued' AND q.alone AND q.due <= now()
);

-- name: finish, prepared
-- consumed -> deleted, if the row still has the consumer and the time of the claim (mtime). So a late ack does not
-- delete a message that was freed and claimed again, or enqueued again under its id. There is no condition on the
-- state, here and below: only consumed rows have a consumer (CHECK). With such a condition the planner could choose the
-- index of consumed messages, which has the entries of finished ones until vacuum. One statement for each claim, in one
-- round trip: an array of times costs more.
DELETE FROM dramatiq.queue
WHERE message_id = ANY(%(message_ids)s::uuid[]) AND consumer = %(consumer)s AND mtime = %(claimed_at)s;

-- name: give_back
-- consumed -> queued, for a message that was not started; counts neither a failure nor a death.
UPDATE dramatiq.queue
SET state = 'queued', consumer = NULL, started_at = NULL, mtime = now()
WHERE message_id = ANY(%(message_ids)s::uuid[]) AND consumer = %(consumer)s AND mtime = %(claimed_at)s;

-- name: release
-- in_flight -> pending for deliveries that were claimed with their messages and not started. No result is expected of their
-- workers any more. Call it before the messages are given back: their next consumer finds the deliveries pending then.
WITH unasked AS (
    DELETE FROM expected_results
    WHERE delivery_id = ANY(%(delivery_ids)s) AND claim_id = ANY(%(claim_ids)s::uuid[]) AND state = 'owed'
    RETURNING message_id
), gone AS (
    DELETE FROM dramatiq.queue AS q USING unasked AS u WHERE q.message_id = u.message_id AND q.state = 'queued'
)
UPDATE deliveries
SET state = 'pending', claim_id = NULL, claimed_by = NULL, lease_until = NULL, next_attempt_at = now()
WHERE id = ANY(%(delivery_ids)s) AND claim_id = ANY(%(claim_ids)s::uuid[]) AND state = 'in_flight';

-- name: retry
-- consumed -> queued, due later: its actor raised, or the message asks for a later time. Repeating it after a lost answer
-- changes nothing, even if the same consumer has claimed the message again.
UPDATE dramatiq.queue
SET state = 'queued', consumer = NULL, started_at = NULL, mtime = now(),
    failures = least(failures + %(counted)s::integer, 32767), due = now() + %(delay)s, reason = %(reason)s
WHERE message_id = %(message_id)s AND consumer = %(consumer)s AND mtime = %(claimed_at)s;

-- name: dead_letter
-- consumed -> rejected, with the reason, until an operator requeues or discards it.
UPDATE dramatiq.queue
SET state = 'rejected', consumer = NULL, started_at = NULL, mtime = now(), failures = least(failures + 1, 32767),
    reason = %(reason)s
WHERE message_id = %(message_id)s AND consumer = %(consumer)s AND mtime = %(claimed_at)s;

-- name: enqueue
-- -> queued: a message from Python. The same id again replaces the message, as with Dramatiq's own brokers. A dead one begins
-- without deaths and failures; otherwise the first of either would end it.
INSERT INTO dramatiq.queue AS q (message_id, queue_name, message, due, priority)
VALUES (%(message_id)s, %(queue_name)s, %(message)s, now() + %(delay)s, %(priority)s)
ON CONFLICT (message_id) DO UPDATE
SET state = 'queued', queue_name = EXCLUDED.queue_name, message = EXCLUDED.message, due = EXCLUDED.due,
    priority = EXCLUDED.priority, consumer = NULL, started_at = NULL, mtime = now(),
    deaths = CASE WHEN q.state = 'rejected' THEN 0 ELSE q.deaths END,
    failures = CASE WHEN q.state = 'rejected' THEN 0 ELSE q.failures END,
    alone = q.alone AND q.state <> 'rejected', never_ahead = q.never_ahead AND q.state <> 'rejected',
    freed_from = CASE WHEN q.state = 'rejected' THEN NULL ELSE q.freed_from END,
    reason = CASE WHEN q.state = 'rejected' THEN NULL ELSE q.reason END;

-- name: send
-- -> queued, in the caller's transaction: a message as Dramatiq would have written it.
SELECT dramatiq.send(
    %(queue_name)s, %(actor_name)s, %(args)s, %(priority)s, now() + %(delay)s, %(delivery_id)s
);

-- name: notify
-- Wake the consumers that listen to these channels. It delays the commits of others that notify, so it runs alone.
SELECT pg_notify(name, '') FROM unnest(%(channels)s::text[]) AS name;

-- name: configure_consumer
-- Claims and acks may be lost in a crash of PostgreSQL: the message runs twice, which is harmless. With these
-- keepalives the server notices after 2 + 3 x 1 s that a client cannot be reached, and drops its lock. The claim is
-- planned once, perhaps when the table is empty; the last three settings make the plan use the index.
SET synchronous_commit TO off;
SET tcp_keepalives_idle TO 2;
SET tcp_keepalives_interval TO 1;
SET tcp_keepalives_count TO 3;
SET tcp_user_timeout TO 5000;
SET enable_seqscan TO off;
SET enable_bitmapscan TO off;
SET plan_cache_mode TO force_generic_plan;

-- name: lock
-- Take the lock that proves that a consumer is alive; it is held as long as the connection. Do not wait for it.
SELECT pg_try_advisory_lock(%(consumer)s) AS is_ours, pg_backend_pid() AS server_process;

-- name: backend
-- The server process of this connection; behind a pooler in transaction mode it changes.
SELECT pg_backend_pid();

-- name: register
-- Run it after the lock is taken: a row whose lock is not held means that the process is gone.
INSERT INTO dramatiq.consumers (id, host, pid, queues, threads, stopping_since)
VALUES (%(consumer)s, %(host)s, %(pid)s, %(queue_names)s, %(threads)s, CASE WHEN %(stopping)s THEN now() END);

-- name: serve
-- The queues of a consumer, for operators.
UPDATE dramatiq.consumers SET queues = %(queue_names)s WHERE id = %(consumer)s;

-- name: stop
-- Mark a consumer that shuts down: no message counts its end as a death.
UPDATE dramatiq.consumers SET stopping_since = coalesce(stopping_since, now()) WHERE id = %(consumer)s;

-- name: unregister
-- Delete the row of a consumer that holds no message; otherwise the row stays for the reaper.
DELETE FROM dramatiq.consumers AS c
WHERE c.id = %(consumer)s
    AND NOT EXISTS (SELECT FROM dramatiq.queue AS q WHERE q.consumer = c.id AND q.state = 'consumed');

-- name: adopt
-- consumed -> consumed by the same process under its new id: its connection was lost, and it still holds the
-- messages. mtime is the time of the claim and identifies the run. The deliveries of these messages move, too: with a lost id
-- in claimed_by, any process could claim them. No other delivery moves. If the answer of the claim of a delivery was lost,
-- no thread works on that delivery; under a living id the delivery would wait for the end of its lease.
-- The other messages of the lost ids were never started (the answer of their claim was lost) or have ended (their ack is
-- still to be written). started_at becomes NULL, so freeing them counts no death.
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
-- rejected | queued | consumed -> one death less, rejected -> queued: the process whose messages were freed is alive.
UPDATE dramatiq.queue
SET deaths = deaths - 1, alone = deaths - 1 >= %(alone_deaths)s, freed_from = NULL,
    state = CASE WHEN state = 'rejected' THEN 'queued' ELSE state END
WHERE message_id = ANY(%(message_ids)s::uuid[]) AND freed_from = ANY(%(lost)s::bigint[]) AND deaths > 0;

-- name: without_lock
-- Consumers whose lock is not held.
SELECT c.id FROM dramatiq.consumers AS c WHERE c.id NOT IN (SELECT live.id FROM dramatiq.live);

-- name: reap
-- consumed -> queued | rejected, for the messages of consumers whose lock was missing before and is missing now. The row of
-- the consumer is deleted in the same transaction; other processes skip a locked row. A message that was claimed ahead was
-- perhaps not started: no death is counted, but it is not claimed ahead again. No death is counted, either, for a consumer
-- that was stopping: it was killed at the end of its grace period.
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

-- name: relax_durability
-- For a connection that only acks: if an ack is lost, the message runs twice, which is harmless.
SET synchronous_commit TO off;
