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

-- Return the folder of an instance's file, which shows the state of its deliveries.
--   failed     one is dead, or all were cancelled
--   queued     one is not settled, and had an attempt or an error
--   incoming   one is not settled, and none of those had an attempt or an error
--   sent       all are settled, and one was delivered; or it is owed to no target
-- In PL/pgSQL, because PostgreSQL would plan a function in SQL anew at each call. The plan is kept: it must use the index,
-- also if it was made when the table was small.
CREATE OR REPLACE FUNCTION place_of(p_instance_id bigint) RETURNS instance_place LANGUAGE plpgsql STABLE
SET enable_seqscan TO off AS $$
BEGIN
    RETURN (SELECT CASE
        WHEN bool_or(state = 'dead') THEN 'failed'
        WHEN bool_or(state IN ('collecting', 'pending', 'in_flight')) THEN
            CASE WHEN bool_or(state IN ('collecting', 'pending', 'in_flight') AND (attempts > 0 OR last_error IS NOT NULL))
                 THEN 'queued' ELSE 'incoming' END
        WHEN bool_or(state = 'delivered') OR count(*) = 0 THEN 'sent'
        ELSE 'failed' END::public.instance_place
    FROM public.deliveries WHERE instance_id = p_instance_id);
END $$;

-- Claim a delivery for a worker (claim_for_worker), and return the claim with the values of its instance, all in one row. If
-- nothing was claimed, only the verdict is not NULL. Its statements are planned once for each connection.
CREATE OR REPLACE FUNCTION claim_with_worker(
    p_delivery_id bigint, p_consumer bigint, p_lease interval, p_result_wait interval, p_by_study boolean,
    p_wait interval, p_actor_name text, p_expire_actor_name text, p_expire_queue text
) RETURNS TABLE (
    verdict text, delivery_id bigint, claim_id text, attempts integer, refusals integer, owed_for interval,
    destination text, target text, instance_id bigint, sop_instance_uid text, study_instance_uid text,
    sop_class_uid text, transfer_syntax_uid text, sha256 text, data_set_size bigint, file_name text, conflict boolean,
    place text
) LANGUAGE plpgsql SET enable_seqscan TO off AS $$
DECLARE
    v_claim_id uuid;
BEGIN
    SELECT c.verdict, c.claim_id INTO verdict, v_claim_id FROM claim_for_worker(
        p_delivery_id, p_consumer, p_lease, p_result_wait, p_by_study, p_wait, p_actor_name, p_expire_actor_name,
        p_expire_queue) AS c;
    SELECT d.id, d.claim_id::text, d.attempts, d.refusals, now() - d.owed_since, d.destination, d.target,
            i.id, i.sop_instance_uid, i.study_instance_uid, i.sop_class_uid, i.transfer_syntax_uid,
            encode(i.sha256, 'hex'), i.data_set_size, i.file_name, i.conflict, i.place::text
        INTO delivery_id, claim_id, attempts, refusals, owed_for, destination, target, instance_id, sop_instance_uid,
            study_instance_uid, sop_class_uid, transfer_syntax_uid, sha256, data_set_size, file_name, conflict, place
        FROM deliveries d JOIN instances i ON i.id = d.instance_id
        WHERE d.id = p_delivery_id AND d.claim_id = v_claim_id;
    RETURN NEXT;
END $$;
