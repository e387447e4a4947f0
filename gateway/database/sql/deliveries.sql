-- name: claim, prepared
-- pending -> in_flight, for exactly one caller. Also in_flight -> in_flight, if the process that had claimed it is gone
-- or the lease is over. Returns no row if another process holds it, if it is settled, or if its UID has several
-- versions: claim_version claims those in their order. Nor for a delivery to another archive than `destination`: a message
-- in a wrong queue sends nothing, and reconcile writes a right one.
UPDATE deliveries d SET state = 'in_flight', claim_id = gen_random_uuid(), claimed_by = %(consumer)s,
    lease_until = now() + %(lease)s, next_attempt_at = NULL, destination = %(destination)s
FROM instances i
WHERE d.id = %(delivery_id)s AND i.id = d.instance_id AND NOT i.versioned
    AND (d.route = 'pacs' OR d.target = %(destination)s) AND (
    (d.state IN ({from_states:claim}) AND d.next_attempt_at <= now() + interval '1 second')
    OR (d.state IN ({from_states:reclaim})
        AND (d.lease_until < now() OR NOT dramatiq.consumer_alive(d.claimed_by))))
RETURNING {fragment:claimed_delivery}, {fragment:stored_instance};

-- name: claim_version
-- Claim an instance whose UID has several versions. Returns NULL if another version is sent first (see
-- functions/claim_version.sql).
SELECT claim_version(d.id, %(consumer)s, %(lease)s, %(destination)s)::text FROM deliveries d
WHERE d.id = %(delivery_id)s AND (d.route = 'pacs' OR d.target = %(destination)s);

-- name: claim_for_worker, prepared
-- Claim a delivery for a worker: choose the worker, and insert the result that is expected of it (see
-- functions/claim_for_worker.sql). One statement, so the lock under which workers are chosen is held for no round trip.
SELECT verdict, delivery_id, claim_id, attempts, refusals, owed_for, destination, target, instance_id, sop_instance_uid,
    study_instance_uid, sop_class_uid, transfer_syntax_uid, sha256, data_set_size, file_name, conflict,
    coalesce(place, 'incoming') AS place
FROM claim_with_worker(
    %(delivery_id)s, %(consumer)s, %(lease)s, %(result_wait)s, %(by_study)s, %(wait)s, %(actor_name)s,
    %(expire_actor_name)s, %(expire_queue)s);

-- name: claimed
SELECT {fragment:claimed_delivery}, {fragment:stored_instance}
FROM deliveries d JOIN instances i ON i.id = d.instance_id
WHERE d.id = %(delivery_id)s AND d.claim_id = %(claim_id)s;

-- name: settle, prepared
-- in_flight -> delivered | pending | dead, if the claim is still held (see functions/settle_delivery.sql). The last
-- column says whether the peer has failures to reset. It rarely has any, so the call of note_well is rarely needed.
SELECT settled, place_before::text, place_after::text, EXISTS (
    SELECT FROM destinations x
    WHERE x.ae_title = %(destination)s AND (x.breaker = 'open' OR x.failures_in_row > 0)) AS peer_had_failed
FROM settle_delivery(
    %(delivery_id)s, %(claim_id)s, %(state)s::delivery_state, %(counted)s, %(refused)s, %(wait)s, %(priority)s,
    %(destination)s, %(outcome)s, %(status)s, %(error)s, %(duration_ms)s, %(actor_name)s, %(result_wait)s);

-- name: settle_together, prepared
-- in_flight -> delivered for several, if their claims are still held, and consumed -> deleted for their messages (see
-- functions/settle_deliveries.sql). The last column is as in `settle`.
SELECT s.done, s.settled, s.place_before::text, s.place_after::text, EXISTS (
    SELECT FROM destinations x
    WHERE x.ae_title = (%(destinations)s::text[])[s."position"] AND (x.breaker = 'open' OR x.failures_in_row > 0)
    ) AS peer_had_failed
FROM settle_deliveries(
    %(delivery_ids)s, %(claim_ids)s::uuid[], %(instance_ids)s, %(destinations)s::text[], %(statuses)s::integer[],
    %(durations)s, %(result_waits)s::interval[], %(message_ids)s::uuid[], %(consumers)s,
    %(claimed_at)s::timestamptz[]) AS s
ORDER BY s."position";

-- name: renew
-- in_flight -> in_flight with a longer lease, while bytes are being sent.
UPDATE deliveries SET lease_until = now() + %(lease)s
WHERE id = %(delivery_id)s AND state = 'in_flight' AND claim_id = %(claim_id)s;

-- name: target_of
SELECT target FROM deliveries WHERE id = %(delivery_id)s;

-- name: waiting_contexts
-- Which presentation contexts the instances that wait for a target need; reads only the oldest of them.
SELECT DISTINCT waiting.sop_class_uid, waiting.transfer_syntax_uid
FROM (SELECT i.sop_class_uid, i.transfer_syntax_uid
      FROM deliveries d JOIN instances i ON i.id = d.instance_id
      WHERE d.route = %(route)s::route AND d.target = %(target)s AND d.state = 'pending'
      ORDER BY d.next_attempt_at LIMIT 1000) AS waiting
LIMIT 127;

-- name: taken_contexts
-- Which presentation contexts a peer accepted lately; reads only the last attempts of all peers.
SELECT DISTINCT i.sop_class_uid, i.transfer_syntax_uid
FROM (SELECT * FROM attempts ORDER BY id DESC LIMIT 2000) AS a
JOIN deliveries d ON d.id = a.delivery_id JOIN instances i ON i.id = d.instance_id
WHERE a.destination = %(destination)s AND a.outcome = 'delivered'
LIMIT 40;

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

-- name: lock_instances
SELECT id FROM instances WHERE id = ANY (%(instance_ids)s::bigint[]) ORDER BY id FOR NO KEY UPDATE;

-- name: mend_place
-- Set the folder to that of the states of its deliveries; the caller moves the file.
UPDATE instances i SET place = place_of(i.id)
FROM (SELECT id, place AS before FROM instances WHERE id = ANY (%(instance_ids)s::bigint[]) FOR NO KEY UPDATE) AS old
WHERE i.id = old.id AND old.before <> place_of(i.id)
RETURNING i.id;
