-- Suspects: instances at which a peer breaks the association, and their siblings; see migrations/0010_peers.sql.

-- name: is_needed
-- Whether anything is suspect at that peer, or parked for it. Without either nobody needs a turn.
SELECT EXISTS (SELECT FROM suspects WHERE ae_title = %(ae_title)s AND failed_at > now() - interval '10 minutes')
    OR EXISTS (SELECT FROM deliveries WHERE state = 'pending' AND parked_for = %(ae_title)s);

-- name: take
SELECT verdict, was_parked FROM take_turn(%(delivery_id)s, %(ae_title)s);

-- name: park
SELECT settled, place_before::text, place_after::text, false AS peer_had_failed
FROM park_delivery(%(delivery_id)s, %(claim_id)s, %(ae_title)s, %(reason)s, %(wait)s, %(actor_name)s);

-- name: call
SELECT call_parked(%(ae_title)s, %(most)s);

-- name: suspect
-- The peer broke the association over that instance.
INSERT INTO suspects (ae_title, instance_id, study_instance_uid, calling_ae_title)
SELECT %(ae_title)s, id, study_instance_uid, calling_ae_title FROM instances WHERE id = %(instance_id)s
ON CONFLICT (ae_title, instance_id) DO UPDATE SET failed_at = now();

-- name: forget_old
DELETE FROM suspects WHERE failed_at < now() - interval '1 hour';

-- name: took
-- The peer took that instance: if it had failed, its study is no suspect on its account.
DELETE FROM suspects WHERE ae_title = %(ae_title)s AND instance_id = %(instance_id)s;

-- name: clear_sender
-- The peer took it, and it is of another study than those that failed: its sender is not what they have in common.
UPDATE suspects s SET sender_is_well = true FROM instances i
WHERE i.id = %(instance_id)s AND s.ae_title = %(ae_title)s AND s.calling_ae_title = i.calling_ae_title
    AND s.study_instance_uid <> i.study_instance_uid AND NOT s.sender_is_well;
