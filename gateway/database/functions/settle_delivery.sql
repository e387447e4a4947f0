-- Record the outcome of one attempt. The delivery changes only if the caller still holds the claim; otherwise the
-- attempt is recorded as fenced. A delivery that stays pending gets its next message in the same transaction.
CREATE OR REPLACE FUNCTION settle_delivery(
    p_delivery_id bigint, p_claim_id uuid, p_state delivery_state, p_counted boolean, p_refused boolean,
    p_wait interval,
    p_priority integer, p_destination text, p_outcome text, p_status integer, p_error text,
    p_duration_ms double precision, p_actor_name text, p_result_wait interval,
    OUT settled boolean, OUT place_before instance_place, OUT place_after instance_place
) LANGUAGE plpgsql AS $$
DECLARE
    v_instance_id bigint;
    v_route route;
    v_target text;
    v_message_id uuid;
    v_versioned boolean;
    v_uid text;
    v_state delivery_state := p_state;
    v_wait interval := p_wait;
BEGIN
    -- Lock the instance before the delivery, as a reception does: one order of locks. If two deliveries of one instance
    -- are settled at the same time, the second sees the first.
    SELECT i.id, i.place, i.versioned, i.sop_instance_uid INTO v_instance_id, place_before, v_versioned, v_uid
        FROM instances i
        WHERE i.id = (SELECT d.instance_id FROM deliveries d WHERE d.id = p_delivery_id) FOR NO KEY UPDATE;
    IF v_versioned THEN
        PERFORM lock_versions(v_uid);
        IF p_state = 'delivered' AND EXISTS (
            SELECT FROM deliveries d WHERE d.id = p_delivery_id AND d.claim_id = p_claim_id AND d.owe_again) THEN
            v_state := 'pending';
            v_wait := interval '0';
        END IF;
    END IF;
    UPDATE deliveries d SET
            state = v_state, attempts = d.attempts + p_counted::integer,
            refusals = d.refusals + p_refused::integer, claim_id = NULL, claimed_by = NULL,
            lease_until = NULL, priority = coalesce(p_priority, d.priority),
            next_attempt_at = CASE WHEN v_state = 'pending' THEN now() + v_wait END,
            destination = p_destination, last_status = p_status, last_error = p_error,
            settled_at = CASE WHEN v_state <> 'pending' THEN now() END, message_id = NULL, owe_again = false,
            may_have_arrived = false
        WHERE d.id = p_delivery_id AND d.state = 'in_flight' AND d.claim_id = p_claim_id
        RETURNING d.route, d.target INTO v_route, v_target;
    settled := FOUND;
    IF v_instance_id IS NOT NULL THEN
        INSERT INTO attempts (delivery_id, claim_id, duration_ms, destination, outcome, status, error, fenced)
            VALUES (p_delivery_id, p_claim_id, p_duration_ms, p_destination, p_outcome, p_status, p_error,
                    NOT settled);
    END IF;
    IF v_versioned AND p_outcome IN ('delivered', 'broken') THEN
        -- Also if the claim was lost: these bytes may be the last that the peer got.
        PERFORM owe_newest_again(p_delivery_id);
    END IF;
    IF NOT settled THEN
        RETURN;
    END IF;
    IF v_state = 'pending' THEN
        UPDATE deliveries d SET message_id = dramatiq.send(
                queue_of(v_route, v_target), p_actor_name, jsonb_build_array(d.id), d.priority, d.next_attempt_at, d.id)
            WHERE d.id = p_delivery_id;
    END IF;
    IF v_route = 'workers' THEN
        IF p_state = 'delivered' THEN
            -- The time until the deadline begins when the worker has the instance.
            UPDATE expected_results e SET due_at = now() + p_result_wait
                WHERE e.delivery_id = p_delivery_id AND e.claim_id = p_claim_id AND e.state = 'owed';
        ELSE
            DELETE FROM expected_results e
                WHERE e.delivery_id = p_delivery_id AND e.claim_id = p_claim_id AND e.state = 'owed'
                RETURNING e.message_id INTO v_message_id;
            DELETE FROM dramatiq.queue q WHERE q.message_id = v_message_id AND q.state = 'queued';
        END IF;
    END IF;
    place_after := place_of(v_instance_id);
    UPDATE instances i SET place = place_after WHERE i.id = v_instance_id AND i.place <> place_after;
END $$;
