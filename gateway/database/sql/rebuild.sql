-- name: analyze
-- Count the rows anew: PostgreSQL plans for the tables as they were counted last, and they were empty.
ANALYZE instances, deliveries, attempts, dramatiq.queue;

-- name: settle
-- collecting | pending -> delivered or dead, for instances that were registered in this transaction. Their messages are deleted.
WITH settled AS (
    UPDATE deliveries d SET state = %(state)s::delivery_state, next_attempt_at = NULL, settled_at = now(),
        last_error = %(reason)s, message_id = NULL
    WHERE d.instance_id = ANY (%(instance_ids)s::bigint[]) AND d.state IN ('collecting', 'pending')
    RETURNING d.id)
DELETE FROM dramatiq.queue q USING settled WHERE q.delivery_id = settled.id AND q.state = 'queued';

-- name: note_reason
-- The same state: why they are owed again.
UPDATE deliveries d SET last_error = %(reason)s
WHERE d.instance_id = ANY (%(instance_ids)s::bigint[]) AND d.state IN ('collecting', 'pending');

-- name: owe_again
-- settled -> pending, for instances whose file lies in incoming/ or queued/ although no delivery is under way: they were
-- owed again after the backup. Cancelled ones only if nothing else is settled.
UPDATE deliveries d SET state = 'pending', attempts = 0, refusals = 0, redispatches = 0, owed_since = now(),
    next_attempt_at = now(), settled_at = NULL, settled_by = NULL, last_status = NULL, last_error = %(reason)s,
    message_id = {fragment:send_message_now}
WHERE d.instance_id = ANY (%(instance_ids)s::bigint[])
    AND NOT EXISTS (SELECT FROM deliveries o WHERE o.instance_id = d.instance_id AND o.state IN ('collecting', 'pending', 'in_flight'))
    AND (d.state IN ('delivered', 'dead') OR (d.state = 'cancelled' AND NOT EXISTS (
        SELECT FROM deliveries o WHERE o.instance_id = d.instance_id AND o.state IN ('delivered', 'dead'))))
RETURNING d.instance_id;

-- name: mend_places
-- The folder that follows from the deliveries.
UPDATE instances i SET place = place_of(i.id)
WHERE i.id = ANY (%(instance_ids)s::bigint[]) AND i.place <> place_of(i.id);
