-- For a claim, before it locks the delivery: whether its turn has come. False: it waits without a message, and the
-- delivery that it waits for is marked, so that whatever settles that one wakes this one (wake_versions).
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
        -- Settled between the look and the lock of its row: it would wake nobody. Look again.
        UPDATE deliveries d SET is_waited_for = true
            WHERE d.id = v_other AND comes_before(d, v_order);
        EXIT WHEN FOUND;
    END LOOP;
    UPDATE deliveries d SET waits_for_version = v_other, message_id = NULL
        WHERE d.id = p_delivery_id AND d.state = 'pending';
    RETURN false;
END $$;
