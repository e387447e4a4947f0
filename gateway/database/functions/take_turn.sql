-- Decide whether a claimed delivery may be sent now. Over all processes, one suspect at a time has the turn. Its turn
-- ends when it is no longer in flight, or when its lease has expired because its process died.
--   free   no suspect: send it
--   turn   a suspect that has the turn: send it
--   wait   a suspect, while another one has the turn
-- `was_parked`: the delivery was parked before. After its attempt the caller must wake the next ones (`call_parked`).
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
