-- name: find
-- The selected deliveries for operators, newest first. `after` is the id of the last delivery of the previous page.
SELECT d.id AS delivery_id, d.attempts, d.redispatches, d.priority, d.owed_since, d.next_attempt_at, d.settled_at, d.settled_by,
    d.destination, d.last_status, d.last_error, i.id AS instance_id, i.sop_instance_uid, i.study_instance_uid, i.conflict,
    i.file_name, d.route::text, d.target, d.state::text, i.kind::text, i.place::text, before.id AS waits_for,
    CASE WHEN before.id IS NOT NULL THEN version_number(before.instance_id) END AS waits_for_version
FROM deliveries d JOIN instances i ON i.id = d.instance_id
LEFT JOIN deliveries before ON before.id = CASE WHEN i.versioned THEN version_before(d.id) END
WHERE {fragment:selection}
    AND (%(after)s::bigint IS NULL OR d.id < %(after)s)
ORDER BY d.id DESC LIMIT %(limit)s;

-- name: attempts_of
SELECT ended_at, duration_ms, destination, outcome, status, error, fenced
FROM attempts WHERE delivery_id = %(delivery_id)s ORDER BY id;

-- name: cancel
-- pending | dead -> cancelled, by an operator.
UPDATE deliveries d SET state = 'cancelled', next_attempt_at = NULL, settled_at = now(), settled_by = %(by)s,
    message_id = NULL
FROM instances i
WHERE i.id = d.instance_id AND d.state IN ({from_states:cancel})
    AND {fragment:selection}
RETURNING d.id AS delivery_id, i.id AS instance_id;

-- name: requeue
-- The given states -> pending with a message, by an operator; attempts are counted from 0 again. Where the last
-- reception of a UID was a repeat that was not forwarded, it is forwarded as the newest version.
WITH chosen AS (
    SELECT d.id, i.versioned AND d.state = 'delivered' AND i.unforwarded_at > d.settled_at AND NOT EXISTS (
        SELECT FROM instances v WHERE v.sop_instance_uid = i.sop_instance_uid AND v.id <> i.id
            AND greatest(v.received_at, v.repeated_at) >= i.unforwarded_at) AS is_last
    FROM deliveries d JOIN instances i ON i.id = d.instance_id
    WHERE d.state IN ({from_states:requeue}) AND d.state = ANY (%(from_states)s::delivery_state[])
        AND {fragment:selection}
    -- lock the instance, too: so this waits for a purge that has locked it
    FOR NO KEY UPDATE OF i, d)
UPDATE deliveries d SET state = 'pending', attempts = 0, refusals = 0, redispatches = 0, owed_since = now(),
    next_attempt_at = now(), settled_at = NULL, settled_by = NULL,
    owed_order = CASE WHEN chosen.is_last THEN nextval('deliveries_id_seq') ELSE d.owed_order END,
    message_id = {fragment:send_message_now}
FROM chosen WHERE d.id = chosen.id AND d.state IN ({from_states:requeue})
RETURNING d.id AS delivery_id, d.instance_id;

-- name: retry_now
-- pending -> pending, due now, with a new message.
UPDATE deliveries d SET next_attempt_at = now(),
    message_id = {fragment:send_message_now}
FROM instances i
WHERE i.id = d.instance_id AND d.state = 'pending' AND d.next_attempt_at > now()
    AND {fragment:selection}
RETURNING d.id AS delivery_id, d.instance_id;
