-- Text that several statements have in common. {fragment:name} in a statement is replaced by it, without its comment.

-- fragment: stored_instance
-- The columns of StoredInstance (gateway/database/tables/instances.py), read from instances AS i.
i.id AS instance_id, i.sop_instance_uid, i.study_instance_uid, i.sop_class_uid, i.transfer_syntax_uid,
    encode(i.sha256, 'hex') AS sha256, i.data_set_size, i.file_name, i.conflict, i.place::text

-- fragment: registered_instance
-- The columns of RegisteredInstance (gateway/database/tables/instances.py). With verdict name_taken the functions give NULLs.
coalesce(instance_id, 0) AS instance_id, verdict, coalesce(kept_file_name, '') AS file_name,
    coalesce(kept_place, 'incoming')::text AS place, coalesce(kept_kind, 'original')::text AS kind

-- fragment: counted_kind
-- What a reception is counted as: a repeat of a stored instance, or what it is itself.
CASE WHEN verdict IN ('stored', 'conflict') THEN kept_kind::text ELSE 'repeat' END

-- fragment: connection_of_process
-- Whether a backend (pg_stat_activity AS a) is the connection that wrote the row of a process (processes AS p). After a restart
-- of PostgreSQL another backend may have its number. A role without the right to see the start of the backend gets true.
a.pid = p.server_process AND coalesce(a.backend_start = p.server_started_at, true) AND a.datname = current_database()

-- fragment: claimed_delivery
-- The columns of DeliveryClaim (gateway/database/tables/deliveries.py) that are not those of its instance.
d.id AS delivery_id, d.claim_id::text, d.attempts, d.refusals, now() - d.owed_since AS owed_for, d.destination, d.target

-- fragment: held_delivery
-- The columns of the delivery h that was claimed with a message, for DeliveryClaim; all are NULL without one, but for place.
h.delivery_id AS "held.delivery_id", h.claim_id AS "held.claim_id", h.attempts AS "held.attempts",
    h.refusals AS "held.refusals", h.owed_for AS "held.owed_for", h.destination AS "held.destination",
    h.target AS "held.target", h.instance_id AS "held.instance_id", h.sop_instance_uid AS "held.sop_instance_uid",
    h.study_instance_uid AS "held.study_instance_uid", h.sop_class_uid AS "held.sop_class_uid",
    h.transfer_syntax_uid AS "held.transfer_syntax_uid", h.sha256 AS "held.sha256", h.data_set_size AS "held.data_set_size",
    h.file_name AS "held.file_name", h.conflict AS "held.conflict", coalesce(h.place, 'incoming') AS "held.place"

-- fragment: selection
-- The deliveries that an operator means (Selection); each condition is off where its parameter is NULL.
(%(delivery_id)s::bigint IS NULL OR d.id = %(delivery_id)s)
    AND (%(study)s::text IS NULL OR i.study_instance_uid = %(study)s)
    AND (%(state)s::delivery_state IS NULL OR d.state = %(state)s::delivery_state)
    AND (%(route)s::route IS NULL OR d.route = %(route)s::route)
    AND (%(target)s::text IS NULL OR d.target = %(target)s)
    AND (%(delivery_ids)s::bigint[] IS NULL OR d.id = ANY (%(delivery_ids)s))

-- fragment: reason_key
-- A short name for the reason of delivery d. The reason itself is no part of an address: a peer wrote it.
left(md5(coalesce(d.last_error, '')), 12)

-- fragment: wanted_deliveries
-- The deliveries d that an operator looks for (WantedDeliveries), besides their states.
(%(route)s::route IS NULL OR d.route = %(route)s::route)
    AND (%(target)s::text IS NULL OR d.target = %(target)s)
    AND (%(worker)s::text IS NULL OR d.route = 'workers' AND d.destination = %(worker)s)
    AND (%(reason_key)s::text IS NULL OR left(md5(coalesce(d.last_error, '')), 12) = %(reason_key)s)

-- fragment: wanted_time
-- Instances that were received in a time; each bound is off where its parameter is NULL.
(%(begin)s::timestamptz IS NULL OR received_at >= %(begin)s)
        AND (%(until)s::timestamptz IS NULL OR received_at <= %(until)s)

-- fragment: wanted_instance
-- Instances i that came from a sender, and have a delivery in one of the states; each is off where its parameter is NULL.
(%(sender)s::text IS NULL OR i.calling_ae_title = %(sender)s)
        AND (%(states)s::delivery_state[] IS NULL OR EXISTS (
            SELECT FROM deliveries d WHERE d.instance_id = i.id AND d.state = ANY (%(states)s::delivery_state[]) OFFSET 0))

-- fragment: send_message_now
-- Write the message of delivery d, due now; it gives the message's id.
dramatiq.send(queue_of(d.route, d.target), forward_actor(d.route), jsonb_build_array(d.id), d.priority, now(), d.id)

-- fragment: meant_instances
-- The instances with that SOP Instance UID, of that series, or of that study.
SELECT * FROM instances WHERE id IN (
        SELECT id FROM instances WHERE sop_instance_uid = %(uid)s
        UNION SELECT id FROM instances WHERE series_instance_uid = %(uid)s
        UNION SELECT id FROM instances WHERE study_instance_uid = %(uid)s)

-- fragment: shown_target
-- The target of delivery d for people: the AE title of an archive; an application and the worker that has the instance.
CASE WHEN d.route <> 'workers' THEN d.target WHEN d.target = 'default' THEN coalesce(d.destination, 'workers')
        ELSE d.target || coalesce(' (' || d.destination || ')', '') END

-- fragment: owed_targets
-- The targets with unsettled deliveries, as a recursive query `owed_targets`; reads one index entry for each.
owed_targets (route, target) AS (
    (SELECT d.route, d.target FROM deliveries d
     WHERE d.state IN ('collecting', 'pending', 'in_flight', 'dead') ORDER BY d.route, d.target LIMIT 1)
    UNION ALL
    SELECT next.route, next.target FROM owed_targets t CROSS JOIN LATERAL (
        SELECT d.route, d.target FROM deliveries d
        WHERE d.state IN ('collecting', 'pending', 'in_flight', 'dead') AND (d.route, d.target) > (t.route, t.target)
        ORDER BY d.route, d.target LIMIT 1) AS next)

-- fragment: covered_seconds
-- The seconds that the rows of `last` cover: the window, or less where there are more rows than its limit.
(SELECT extract(epoch FROM CASE WHEN count(*) < %(limit)s THEN %(window)s::interval
    ELSE least(%(window)s::interval, now() - min(owed_since)) END)::float8 FROM last)

-- fragment: claimed_messages
-- queued -> consumed, for the consumer $3, at most $2 messages of the queue $1, and at most as many as the route has capacity for (the
-- SQL function room). Messages of priority -1 are probes, which may open a closed route: they need no capacity.
--   $4  per priority from 0, a due time before which there is nothing to find. Without it every claim would read the index
--       entries of finished messages, which vacuum cannot remove while a long transaction (a backup) is open.
--   $5  how many are marked as started. The others are claimed ahead, but never one that was claimed ahead when a
--       process died.
-- The statement reads the claim's index per priority from the oldest due message; SKIP LOCKED leaves out what others
-- claim. The picked ids are an array, not a join: with statistics from a time when the table was empty, a join may read
-- the whole table. mtime is the time of the claim; with id and consumer it identifies this run, see finish. A value
-- that the client cannot read would fail every claim, so a due time before 1970 becomes 1970, a document above 4 MiB
-- NULL.
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
        q.deaths, q.failures, q.priority, greatest(q.due, 'epoch') AS due, q.mtime AS claimed_at, q.delivery_id
)

-- fragment: seconds_to_next_message
-- 0 if fewer messages were claimed than are due, perhaps; else the seconds until the next one is due, NULL if none waits.
CASE WHEN (SELECT count(*) FILTER (WHERE NOT (ahead AND never_ahead)) >= $2 OR bool_or(ahead AND never_ahead) FROM picked)
    THEN 0 ELSE (
        SELECT extract(epoch FROM min(following.due) - now())
        FROM generate_series(-1, 7) AS level (priority)
        CROSS JOIN LATERAL (
            SELECT q.due
            FROM dramatiq.queue AS q
            WHERE q.queue_name = $1 AND q.state = 'queued' AND NOT q.alone
                AND q.priority = level.priority AND q.due > now()
            ORDER BY q.due
            LIMIT 1
        ) AS following
        WHERE level.priority < 0 OR (SELECT size FROM room) > 0) END::float8
