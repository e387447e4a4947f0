-- Units: the series or studies that an application gets whole.

-- name: claim
-- collecting | complete -> sending, for exactly one caller (see functions/claim_unit.sql).
SELECT verdict, claim_id::text, worker FROM claim_unit(
    %(unit_id)s, %(consumer)s, %(lease)s, %(unregistered_since)s, %(wait)s);

-- name: get
SELECT id AS unit_id, application, unit, study_instance_uid, uid, generation, state::text, completed_by, failures, redispatches,
    now() - coalesce(completed_at, first_at) AS owed_for
FROM units WHERE id = %(unit_id)s;

-- name: members
-- The next instances of a unit, in the order in which they were registered; a version that was repeated after another one
-- comes after it.
SELECT m.id AS delivery_id, {fragment:stored_instance}
FROM units u CROSS JOIN LATERAL unit_members(u) AS m JOIN instances i ON i.id = m.instance_id
WHERE u.id = %(unit_id)s
ORDER BY version_order(m);

-- name: renew
-- sending -> sending with a longer lease, while it is being sent.
UPDATE units SET lease_until = now() + %(lease)s
WHERE id = %(unit_id)s AND state = 'sending' AND claim_id = %(claim_id)s;

-- name: settle
-- sending -> sent | answered | complete | dead, if the claim is still held (see functions/settle_unit.sql).
SELECT settle_unit(%(unit_id)s, %(claim_id)s, %(sent)s, %(give_up)s, %(counted)s, %(outcome)s, %(error)s, %(wait)s,
    %(result_wait)s, %(last_began)s, %(expire_actor_name)s, %(expire_queue)s, %(delivery_ids)s::bigint[],
    %(outcomes)s::text[], %(statuses)s::integer[], %(errors)s::text[], %(durations)s::float8[]);

-- name: expire
SELECT verdict, worker, application, study_instance_uid FROM expire_unit(
    %(unit_id)s, %(max_redispatch)s, %(expire_actor_name)s, %(expire_queue)s);

-- name: answer, prepared
SELECT answered, late, is_older FROM answer_units(
    %(result_id)s, %(source_ids)s::bigint[], %(studies)s::text[], %(workers)s::text[]);

-- name: silent
-- Units that are due, or whose sender is gone, for longer than `grace`, and that have no message.
SELECT u.id FROM units u
WHERE ((u.state IN ('collecting', 'complete') AND u.next_attempt_at < now() - %(grace)s)
        OR (u.state = 'sending' AND u.lease_until < now()))
    AND NOT EXISTS (SELECT FROM dramatiq.queue q WHERE q.message_id = u.message_id AND q.state IN ('queued', 'rejected'))
    AND NOT EXISTS (
        SELECT FROM dramatiq.queue q WHERE q.queue_name = queue_of('workers', u.application)
            AND q.message ->> 'actor_name' = 'forward_unit' AND q.message -> 'args' ->> 0 = u.id::text
            AND (q.state = 'rejected' OR (q.state = 'consumed' AND q.mtime > now() - %(lease)s)))
ORDER BY u.id LIMIT %(limit)s;

-- name: look_earlier
-- Make the messages due earlier of units that collect, and are complete earlier than they were to be looked at: their
-- application has other times than before, or does not get whole series or studies any more. A message that an actor runs
-- just now is left out.
UPDATE dramatiq.queue q SET due = l.at FROM (
    SELECT w.message_id, w.at FROM (
        SELECT u.message_id, coalesce(least(u.last_at + a.complete_after, u.first_at + a.max_wait), now()) AS at
        FROM units u LEFT JOIN application_units a ON a.application = u.application
        WHERE u.state = 'collecting') AS w
    JOIN dramatiq.queue m ON m.message_id = w.message_id AND m.state = 'queued' AND m.due > w.at + interval '1 second'
    FOR UPDATE OF m SKIP LOCKED) AS l
WHERE q.message_id = l.message_id;

-- name: send_message
-- A new message for a unit that lost its own.
UPDATE units u SET message_id = wake_unit_at(u, now()), next_attempt_at = CASE WHEN u.state = 'sending' THEN NULL ELSE now() END
WHERE u.id = %(unit_id)s AND u.state IN ('collecting', 'complete', 'sending');

-- name: overdue
-- Units whose result is overdue, and whose message was lost.
SELECT id FROM units WHERE state = 'sent' AND next_attempt_at < now() - %(grace)s ORDER BY next_attempt_at LIMIT %(limit)s;

-- name: misplaced
-- Instances of units that were sent lately, whose folder in the row is not the one of their deliveries: the process died
-- before it corrected them.
SELECT i.id FROM units u JOIN deliveries d ON d.unit_id = u.id JOIN instances i ON i.id = d.instance_id
WHERE u.state IN ('sent', 'answered', 'timed_out', 'superseded', 'dead')
    AND coalesce(u.settled_at, u.sent_at) BETWEEN now() - interval '1 day' AND now() - %(grace)s
    AND i.place IN ('incoming', 'queued') AND i.place <> place_of(i.id)
LIMIT %(limit)s;

-- name: complete_removed
-- collecting -> complete, for units of applications without a worker of which nothing is collected any more.
UPDATE units u SET state = 'complete', completed_at = now(), completed_by = 'configuration'
WHERE u.state = 'collecting' AND NOT EXISTS (SELECT FROM application_workers w WHERE w.application = u.application)
    AND NOT EXISTS (SELECT FROM deliveries d WHERE d.unit_id = u.id AND d.state = 'collecting');

-- name: cancel_removed
-- complete -> cancelled, for the same units, and for those that were to be sent to another worker. Their messages are
-- deleted: nobody consumes the queue of a removed application after a restart.
WITH ended AS (
    UPDATE units u SET state = 'cancelled', settled_at = now(), next_attempt_at = NULL, message_id = NULL,
        last_error = 'its application was removed'
    FROM units old
    WHERE old.id = u.id AND u.state = 'complete'
        AND NOT EXISTS (SELECT FROM application_workers w WHERE w.application = u.application)
        AND NOT EXISTS (SELECT FROM deliveries d WHERE d.unit_id = u.id AND d.state = 'collecting')
    RETURNING old.message_id
)
DELETE FROM dramatiq.queue q USING ended e WHERE q.message_id = e.message_id AND q.state = 'queued';

-- name: forget
-- Delete settled units of which no instance is kept; returns how many.
DELETE FROM units u WHERE u.id IN (
    SELECT o.id FROM units o WHERE o.state IN ('answered', 'timed_out', 'superseded', 'dead', 'cancelled')
        AND o.settled_at < now() - %(retention)s AND NOT EXISTS (SELECT FROM deliveries d WHERE d.unit_id = o.id)
    ORDER BY o.id LIMIT %(limit)s);
