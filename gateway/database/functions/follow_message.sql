-- Change the state of a delivery with that of its message: dead, with the reason, when the message is rejected; pending
-- when an operator requeues the message. Else the delivery would seem to be under way (G2), or be woken for ever.
CREATE OR REPLACE FUNCTION follow_message() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_instance_id bigint;
BEGIN
    IF NEW.state = 'rejected' THEN
        UPDATE public.deliveries d SET state = 'dead', claim_id = NULL, claimed_by = NULL, lease_until = NULL,
                next_attempt_at = NULL, settled_at = now(), last_error = NEW.reason
            WHERE d.id = NEW.delivery_id AND d.state IN ('pending', 'in_flight')
            RETURNING d.instance_id INTO v_instance_id;
    ELSE
        UPDATE public.deliveries d SET state = 'pending', attempts = 0, refusals = 0, owed_since = now(), next_attempt_at = now(),
                settled_at = NULL, message_id = NEW.message_id
            WHERE d.id = NEW.delivery_id AND d.state = 'dead'
            RETURNING d.instance_id INTO v_instance_id;
    END IF;
    UPDATE public.instances i SET place = public.place_of(i.id) WHERE i.id = v_instance_id;
    RETURN NULL;
END $$;
