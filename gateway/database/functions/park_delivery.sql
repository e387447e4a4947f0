-- in_flight -> pending, for the holder of a claim that may not send now. No attempt was made, so none is recorded.
-- `p_wait` is long; normally `call_parked` ends the wait before.
CREATE OR REPLACE FUNCTION park_delivery(
    p_delivery_id bigint, p_claim_id uuid, p_ae_title text, p_reason text, p_wait interval, p_actor_name text,
    OUT settled boolean, OUT place_before instance_place, OUT place_after instance_place
) LANGUAGE plpgsql AS $$
DECLARE
    v_instance_id bigint;
BEGIN
    -- Lock the instance before the delivery, as a reception and a settle do: one order of locks.
    SELECT i.id, i.place INTO v_instance_id, place_before FROM instances i
        WHERE i.id = (SELECT d.instance_id FROM deliveries d WHERE d.id = p_delivery_id) FOR NO KEY UPDATE;
    UPDATE deliveries d SET state = 'pending', claim_id = NULL, claimed_by = NULL, lease_until = NULL,
            next_attempt_at = now() + p_wait, last_error = p_reason, parked_for = p_ae_title,
            message_id = dramatiq.send(queue_of(d.route, d.target), p_actor_name, jsonb_build_array(d.id), d.priority,
                                       now() + p_wait, d.id)
        WHERE d.id = p_delivery_id AND d.state = 'in_flight' AND d.claim_id = p_claim_id;
    settled := FOUND;
    IF settled THEN
        place_after := place_of(v_instance_id);
        UPDATE instances i SET place = place_after WHERE i.id = v_instance_id AND i.place <> place_after;
    END IF;
END $$;
