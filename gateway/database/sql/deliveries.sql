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

-- name: lock_instances
SELECT id FROM instances WHERE id = ANY (%(instance_ids)s::bigint[]) ORDER BY id FOR NO KEY UPDATE;

-- name: mend_place
-- Set the folder to that of the states of its deliveries; the caller moves the file.
UPDATE instances i SET place = place_of(i.id)
FROM (SELECT id, place AS before FROM instances WHERE id = ANY (%(instance_ids)s::bigint[]) FOR NO KEY UPDATE) AS old
WHERE i.id = old.id AND old.before <> place_of(i.id)
RETURNING i.id;
