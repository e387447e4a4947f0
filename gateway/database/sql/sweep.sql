-- name: rescue
-- in_flight -> pending with a new message: the lease is over.
WITH lost AS (
    SELECT d.id FROM deliveries d
    WHERE d.state IN ({from_states:rescue}) AND d.lease_until < now()
    ORDER BY d.id LIMIT %(limit)s FOR UPDATE SKIP LOCKED),
forgotten AS (
    DELETE FROM expected_results e USING lost, deliveries d
    WHERE d.id = lost.id AND e.delivery_id = d.id AND e.claim_id = d.claim_id AND e.state = 'owed')
UPDATE deliveries d SET state = 'pending', claim_id = NULL, claimed_by = NULL, lease_until = NULL,
    next_attempt_at = now(), last_error = 'rescued: its claim was over',
    message_id = {fragment:send_message_now}
FROM lost WHERE d.id = lost.id AND d.state IN ({from_states:rescue})
RETURNING d.id;

-- name: due_deliveries
-- The next deliveries by id that are due for longer than `grace`.
SELECT d.id FROM deliveries d
WHERE d.state = 'pending' AND d.next_attempt_at < now() - %(grace)s AND d.id > %(after)s
ORDER BY d.id LIMIT %(limit)s;

-- name: send_missing_messages
-- pending -> pending with a new message, among these: it is due and has none. A message that a process has held for longer than a lease
-- does not count: that process hangs. A delivery that waits for an earlier version has no message; it gets one only if that
-- version is settled and did not wake it.
WITH silent AS (
    SELECT d.id FROM deliveries d
    WHERE d.id = ANY (%(delivery_ids)s::bigint[]) AND d.state = 'pending' AND d.next_attempt_at < now() - %(grace)s
        AND (d.waits_for_version IS NULL OR version_before(d.id) IS NULL)
        AND NOT EXISTS (SELECT FROM dramatiq.queue q
                        WHERE q.delivery_id = d.id
                            AND (q.state = 'queued' OR (q.state = 'consumed' AND q.mtime > now() - %(lease)s)))
    ORDER BY d.id FOR UPDATE SKIP LOCKED)
UPDATE deliveries d SET
    message_id = {fragment:send_message_now}
FROM silent WHERE d.id = silent.id
RETURNING d.id;

-- name: owners_of
-- For file names found on the disk: the instances whose rows have these names.
SELECT {fragment:stored_instance}
FROM unnest(%(studies)s::text[], %(names)s::text[]) AS f (study, name)
JOIN instances i ON i.study_instance_uid = f.study AND i.file_name = f.name;

-- name: undelivered_files
-- Instances that must have a file because they are not delivered everywhere, page by page.
SELECT DISTINCT i.id AS instance_id, i.study_instance_uid, i.file_name, i.place::text
FROM deliveries d JOIN instances i ON i.id = d.instance_id
WHERE d.state IN ('collecting', 'pending', 'in_flight', 'dead') AND i.id > %(after)s
ORDER BY i.id LIMIT %(limit)s;

-- name: is_owed
-- Whether a delivery of an instance is pending, in flight or dead.
SELECT EXISTS (SELECT FROM deliveries d
               WHERE d.instance_id = %(instance_id)s AND d.state IN ('collecting', 'pending', 'in_flight', 'dead'));

-- name: old_instances
-- The next instances by time of reception that are older than `retention`, after a position. They are only candidates.
SELECT received_at, id AS instance_id FROM instances
WHERE received_at < now() - %(retention)s
    AND received_at >= %(received_at)s::timestamptz AND (received_at, id) > (%(received_at)s::timestamptz, %(id)s)
ORDER BY received_at, id LIMIT %(limit)s;

-- name: lock_purgeable
-- Of these instances, those that are delivered everywhere or cancelled, and unchanged for longer than `retention`. They are
-- locked, so that a repeat waits until file and row are deleted. An instance is kept while a worker owes a result for it, and
-- while a generation of its unit is not settled. It is also kept until every other version is settled for as long, because a
-- retry of an older version must be followed by the newest one.
SELECT i.id AS instance_id, i.study_instance_uid, i.file_name, i.place::text FROM instances i
WHERE i.id = ANY (%(instance_ids)s::bigint[]) AND greatest(i.received_at, i.repeated_at) < now() - %(retention)s
    AND NOT EXISTS (SELECT FROM deliveries d WHERE d.instance_id = i.id
                    AND (d.state NOT IN ('delivered', 'cancelled') OR d.settled_at > now() - %(retention)s))
    AND NOT EXISTS (SELECT FROM expected_results e WHERE e.instance_id = i.id AND e.state = 'owed')
    AND NOT EXISTS (
        SELECT FROM deliveries d JOIN units o ON o.id = d.unit_id
        JOIN units u ON u.application = o.application AND u.study_instance_uid = o.study_instance_uid AND u.uid = o.uid
        WHERE d.instance_id = i.id AND u.state IN ('collecting', 'complete', 'sending', 'sent'))
    AND (NOT i.versioned OR NOT EXISTS (
        SELECT FROM instances v JOIN deliveries d ON d.instance_id = v.id
        WHERE v.sop_instance_uid = i.sop_instance_uid AND v.id <> i.id
            AND (d.state NOT IN ('delivered', 'cancelled') OR d.settled_at > now() - %(retention)s)))
ORDER BY i.id FOR UPDATE OF i SKIP LOCKED;

-- name: still_purgeable
-- Run it once the rows are locked: it sees a resend or repeat that was committed just before.
SELECT i.id FROM instances i WHERE i.id = ANY (%(instance_ids)s::bigint[])
    AND NOT EXISTS (
        SELECT FROM deliveries d WHERE d.instance_id = i.id AND d.state NOT IN ('delivered', 'cancelled'))
    AND (NOT i.versioned OR NOT EXISTS (
        SELECT FROM instances v JOIN deliveries d ON d.instance_id = v.id
        WHERE v.sop_instance_uid = i.sop_instance_uid AND v.id <> i.id AND d.state NOT IN ('delivered', 'cancelled')));

-- name: make_durable
-- An empty entry in PostgreSQL's log: the commit waits until the log is on the disk up to here.
SELECT set_config('synchronous_commit', 'on', true), pg_logical_emit_message(true, 'mini_pacs', '');

-- name: delete_instances
DELETE FROM instances WHERE id = ANY (%(instance_ids)s::bigint[]);

-- name: note
INSERT INTO sweeps (verb, counts) VALUES (%(verb)s, %(counts)s::jsonb)
ON CONFLICT (verb) DO UPDATE SET ran_at = now(), counts = EXCLUDED.counts;

-- name: last
SELECT verb, ran_at, counts FROM sweeps ORDER BY verb;

-- name: position
-- How far a part of the sweep came in its present pass.
SELECT position FROM sweep_cursors WHERE part = %(part)s;

-- name: store_position
-- Also return the seconds since the pass began, which is when its first position was stored.
WITH before AS (SELECT began_at FROM sweep_cursors WHERE part = %(part)s AND position <> '')
INSERT INTO sweep_cursors AS c (part, position) VALUES (%(part)s, %(position)s)
ON CONFLICT (part) DO UPDATE SET position = EXCLUDED.position,
    began_at = CASE WHEN c.position = '' THEN now() ELSE c.began_at END
RETURNING coalesce(extract(epoch FROM now() - (SELECT began_at FROM before)), 0)::float8;

-- name: misplaced
-- For file names found on the disk: the numbers of those that no row names in that place.
SELECT f.number FROM unnest(%(places)s::text[], %(studies)s::text[], %(names)s::text[])
    WITH ORDINALITY AS f (place, study, name, number)
LEFT JOIN instances i ON i.study_instance_uid = f.study AND i.file_name = f.name
WHERE i.place::text IS DISTINCT FROM f.place ORDER BY f.number;

-- name: clear_superseded
-- rejected -> deleted, for messages whose work is done: the sweep that has just ended did the work of dead messages of
-- sweeps, deadlines and ends of pauses. A probe is not needed once the breaker is closed, and a message of a unit not once
-- nothing of the unit is owed (as in claim_unit).
DELETE FROM dramatiq.queue AS q
WHERE q.state = 'rejected' AND q.delivery_id IS NULL AND (
    (q.queue_name = %(sweep_queue)s AND q.message ->> 'actor_name' = ANY (%(sweep_actors)s::text[]))
    OR (q.message ->> 'actor_name' = ANY (%(probe_actors)s::text[])
        AND EXISTS (SELECT FROM destinations d WHERE d.ae_title = q.message -> 'args' ->> 0 AND d.breaker = 'closed'))
    OR (q.message ->> 'actor_name' = %(unit_actor)s AND NOT EXISTS (
        SELECT FROM units u JOIN deliveries d ON d.unit_id = u.id
        WHERE u.id::text = q.message -> 'args' ->> 0 AND u.state IN ('collecting', 'complete', 'sending')
            AND (d.state = 'collecting' OR (d.state = 'delivered' AND u.sent_at IS NOT NULL))))
);
