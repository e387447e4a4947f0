-- Record several deliveries as delivered, delete their messages, and record their attempts: what settle_delivery and an
-- ack do, in one statement.
--
-- The arrays belong together. If a claim was lost, the attempt is recorded as fenced, and the message is kept: the delivery
-- may be pending again, and this message may be its only one. Two kinds are left to settle_delivery (`done` is false): a
-- delivery whose UID has several versions, and one whose instance another transaction has locked. So this transaction waits
-- for no lock of an instance while it holds one, and no other transaction has to lock in its order.
CREATE OR REPLACE FUNCTION settle_deliveries(
    p_delivery_ids bigint[], p_claim_ids uuid[], p_instance_ids bigint[], p_destinations text[], p_statuses integer[],
    p_durations double precision[], p_result_waits interval[],
    p_message_ids uuid[], p_consumers bigint[], p_claimed_at timestamptz[]
) RETURNS TABLE (
    "position" integer, done boolean, settled boolean, place_before instance_place, place_after instance_place
) LANGUAGE plpgsql SET enable_seqscan TO off AS $$
DECLARE
    v_versioned boolean;
    v_route route;
    v_done integer[] := '{}';
    v_fenced boolean[] := '{}';
BEGIN
    FOR n IN 1 .. cardinality(p_delivery_ids) LOOP
        "position" := n;
        place_after := NULL;
        -- Lock the instance before the delivery, as a reception does. If two deliveries of one instance are settled at the
        -- same time, the second sees the first.
        IF n = 1 THEN
            SELECT i.place, i.versioned INTO place_before, v_versioned
                FROM instances i WHERE i.id = p_instance_ids[n] FOR NO KEY UPDATE;
        ELSE
            SELECT i.place, i.versioned INTO place_before, v_versioned
                FROM instances i WHERE i.id = p_instance_ids[n] FOR NO KEY UPDATE SKIP LOCKED;
        END IF;
        done := FOUND AND NOT v_versioned;
        settled := false;
        IF NOT done THEN
            RETURN NEXT;
            CONTINUE;
        END IF;
        UPDATE deliveries d SET state = 'delivered', attempts = d.attempts + 1, claim_id = NULL, claimed_by = NULL,
                lease_until = NULL, next_attempt_at = NULL, destination = p_destinations[n], last_status = p_statuses[n],
                last_error = NULL, settled_at = now(), message_id = NULL, owe_again = false, may_have_arrived = false
            WHERE d.id = p_delivery_ids[n] AND d.state = 'in_flight' AND d.claim_id = p_claim_ids[n]
            RETURNING d.route INTO v_route;
        settled := FOUND;
        v_done := v_done || n;
        v_fenced := v_fenced || NOT settled;
        IF settled THEN
            IF v_route = 'workers' THEN
                -- The time until the deadline begins when the worker has the instance.
                UPDATE expected_results e SET due_at = now() + p_result_waits[n]
                    WHERE e.delivery_id = p_delivery_ids[n] AND e.claim_id = p_claim_ids[n] AND e.state = 'owed';
            END IF;
            place_after := place_of(p_instance_ids[n]);
            IF place_after <> place_before THEN
                UPDATE instances i SET place = place_after WHERE i.id = p_instance_ids[n];
            END IF;
            -- The same condition as `finish` has: not a message that was freed and claimed again.
            DELETE FROM dramatiq.queue q
                WHERE q.message_id = p_message_ids[n] AND q.consumer = p_consumers[n] AND q.mtime = p_claimed_at[n];
        END IF;
        RETURN NEXT;
    END LOOP;
    INSERT INTO attempts (delivery_id, claim_id, duration_ms, destination, outcome, status, fenced)
        SELECT p_delivery_ids[t.n], p_claim_ids[t.n], p_durations[t.n], p_destinations[t.n], 'delivered', p_statuses[t.n],
            t.fenced
        FROM unnest(v_done, v_fenced) AS t (n, fenced);
END $$;
