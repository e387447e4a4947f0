-- Return whether a delivery may be sent now, as far as other versions of its UID are concerned. A claim calls this
-- before it locks the delivery. If false, the delivery waits without a message. The delivery that it waits for is
-- marked, so that the trigger `wake_versions` wakes this one when that one is settled.
CREATE OR REPLACE FUNCTION is_in_turn(p_delivery_id bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_uid text;
    v_order bigint;
    v_other bigint;
BEGIN
    SELECT i.sop_instance_uid, version_order(d) INTO v_uid, v_order FROM deliveries d JOIN instances i ON i.id = d.instance_id
        WHERE d.id = p_delivery_id AND i.versioned;
    IF NOT FOUND THEN
        RETURN true;
    END IF;
    PERFORM lock_versions(v_uid);
    LOOP
        v_other := version_before(p_delivery_id);
        IF v_other IS NULL THEN
            RETURN true;
        END IF;
        -- If that delivery was settled before its row is locked here, it wakes nobody: look again.
        UPDATE deliveries d SET is_waited_for = true
            WHERE d.id = v_other AND comes_before(d, v_order);
        EXIT WHEN FOUND;
    END LOOP;
    UPDATE deliveries d SET waits_for_version = v_other, message_id = NULL
        WHERE d.id = p_delivery_id AND d.state = 'pending';
    RETURN false;
END $$;
