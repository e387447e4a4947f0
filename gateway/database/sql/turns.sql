-- Suspects: instances at which a peer broke the association, and the other instances of their studies (functions/take_turn.sql).

-- name: is_needed
-- Whether the peer has suspects or parked deliveries; without them no delivery needs a turn.
SELECT EXISTS (SELECT FROM suspects WHERE ae_title = %(ae_title)s AND failed_at > now() - interval '10 minutes')
    OR EXISTS (SELECT FROM deliveries WHERE state = 'pending' AND parked_for = %(ae_title)s);

-- name: take
SELECT verdict, was_parked FROM take_turn(%(delivery_id)s, %(ae_title)s);

-- name: park
SELECT settled, place_before::text, place_after::text, false AS peer_had_failed
FROM park_delivery(%(delivery_id)s, %(claim_id)s, %(ae_title)s, %(reason)s, %(wait)s,
    (SELECT forward_actor(d.route) FROM deliveries d WHERE d.id = %(delivery_id)s));

-- name: call
SELECT call_parked(%(ae_title)s, %(most)s);

-- name: suspect
-- Record that the peer broke the association at that instance.
INSERT INTO suspects (ae_title, instance_id, study_instance_uid, calling_ae_title)
SELECT %(ae_title)s, id, study_instance_uid, calling_ae_title FROM instances WHERE id = %(instance_id)s
ON CONFLICT (ae_title, instance_id) DO UPDATE SET failed_at = now();

-- name: forget_old
DELETE FROM suspects WHERE failed_at < now() - interval '1 hour';

-- name: took
-- The peer accepted that instance, so it no longer makes its study suspect.
DELETE FROM suspects WHERE ae_title = %(ae_title)s AND instance_id = %(instance_id)s;

-- name: clear_sender
-- The peer took an instance of the same sender and of another study: the sender is not the cause.
UPDATE suspects s SET sender_is_well = true FROM instances i
WHERE i.id = %(instance_id)s AND s.ae_title = %(ae_title)s AND s.calling_ae_title = i.calling_ae_title
    AND s.study_instance_uid <> i.study_instance_uid AND NOT s.sender_is_well;
