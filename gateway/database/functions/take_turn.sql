-- Whether a delivery that was claimed may be sent now. Over all processes one suspect at a time is: the turn ends
-- when that delivery is not in flight any more, also where its process died.
--   free   no suspect
--   turn   a suspect, and the turn is its own
--   wait   a suspect, and another one has the turn
-- `was_parked` says that it was called, or woke by itself: when it ends, it is its turn to call.
CREATE OR REPLACE FUNCTION take_turn(
    p_delivery_id bigint, p_ae_title text, OUT verdict text, OUT was_parked boolean
) LANGUAGE plpgsql AS $$
DECLARE
    v_instance_id bigint;
BEGIN
    UPDATE deliveries d SET parked_for = NULL WHERE d.id = p_delivery_id AND d.parked_for IS NOT NULL;
    was_parked := FOUND;
    SELECT d.instance_id INTO v_instance_id FROM deliveries d WHERE d.id = p_delivery_id;
    IF NOT is_suspect(p_ae_title, v_instance_id) THEN
        verdict := 'free';
        RETURN;
    END IF;
    UPDATE destinations x SET turn_of = p_delivery_id
        WHERE x.ae_title = p_ae_title AND (
            x.turn_of IS NULL OR x.turn_of = p_delivery_id OR NOT EXISTS (
                SELECT FROM deliveries o
                WHERE o.id = x.turn_of AND o.state = 'in_flight' AND o.lease_until > now()));
    verdict := CASE WHEN FOUND THEN 'turn' ELSE 'wait' END;
END $$;
