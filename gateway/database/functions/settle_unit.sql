-- Record what became of sending a unit, if the claim is still held; else return false and record it as fenced.
--
-- It locks no instance, because the PACS path must not wait for a unit of 10,000 (G5): the caller mends their folders
-- afterwards, in small transactions.
--
-- With `p_sent` it was sent whole: its deliveries are delivered, those that the worker refused are dead, and its result is
-- expected until `p_result_wait` from now. A result that came after the last instance began is that result. If the worker
-- refused all, the unit is dead. Without `p_sent` it is sent again after `p_wait`, or is dead with `p_give_up`.
CREATE OR REPLACE FUNCTION settle_unit(
    p_unit_id bigint, p_claim_id uuid, p_sent boolean, p_give_up boolean, p_counted boolean, p_outcome text, p_error text,
    p_wait interval, p_result_wait interval, p_last_began timestamptz, p_expire_actor_name text, p_expire_queue text,
    p_delivery_ids bigint[], p_outcomes text[], p_statuses integer[], p_errors text[], p_durations double precision[]
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    u units;
    x unit_dispatches;
    v_delivered integer;
BEGIN
    SELECT * INTO u FROM units y WHERE y.id = p_unit_id AND y.claim_id = p_claim_id AND y.state = 'sending' FOR UPDATE;
    INSERT INTO attempts (delivery_id, claim_id, duration_ms, destination, outcome, status, error, fenced)
        SELECT d.id, p_claim_id, r.duration, y.worker, r.outcome, r.status, r.error, u.id IS NULL
        FROM unnest(p_delivery_ids, p_outcomes, p_statuses, p_errors, p_durations) AS r (id, outcome, status, error, duration)
        JOIN deliveries d ON d.id = r.id JOIN unit_dispatches y ON y.claim_id = p_claim_id;
    UPDATE unit_dispatches y SET ended_at = now(), error = p_error, instances = cardinality(p_delivery_ids),
            outcome = CASE WHEN u.id IS NULL THEN 'fenced' ELSE p_outcome END
        WHERE y.claim_id = p_claim_id RETURNING * INTO x;
    IF u.id IS NULL THEN
        RETURN false;
    END IF;
    IF p_sent THEN
        UPDATE deliveries d SET state = 'delivered', attempts = d.attempts + 1, destination = x.worker, last_status = r.status,
                last_error = NULL, settled_at = now()
            FROM unnest(p_delivery_ids, p_outcomes, p_statuses) AS r (id, outcome, status)
            WHERE d.id = r.id AND d.state = 'collecting' AND r.outcome IN ('delivered', 'already_there');
        UPDATE deliveries d SET state = 'dead', attempts = d.attempts + 1, refusals = d.refusals + 1, destination = x.worker,
                last_status = r.status, last_error = r.error, settled_at = now()
            FROM unnest(p_delivery_ids, p_outcomes, p_statuses, p_errors) AS r (id, outcome, status, error)
            WHERE d.id = r.id AND d.state = 'collecting' AND r.outcome NOT IN ('delivered', 'already_there');
        SELECT count(*) INTO v_delivered FROM unnest(p_outcomes) AS o WHERE o IN ('delivered', 'already_there');
    ELSIF p_give_up THEN
        UPDATE deliveries d SET state = 'dead', destination = x.worker, last_error = p_error, settled_at = now()
            WHERE d.unit_id = u.id AND d.state = 'collecting';
    END IF;
    UPDATE units y SET
            state = CASE
                WHEN p_sent AND v_delivered = 0 OR NOT p_sent AND p_give_up THEN 'dead'
                WHEN NOT p_sent THEN 'complete'
                WHEN x.result_at >= p_last_began THEN 'answered'
                ELSE 'sent' END::unit_state,
            claim_id = NULL, claimed_by = NULL, lease_until = NULL, last_error = p_error,
            failures = CASE WHEN p_sent THEN 0 ELSE y.failures + p_counted::integer END,
            sent_at = CASE WHEN p_sent AND v_delivered > 0 THEN now() ELSE y.sent_at END
        WHERE y.id = u.id RETURNING * INTO u;
    IF u.state = 'complete' THEN
        UPDATE units y SET next_attempt_at = now() + p_wait, message_id = wake_unit_at(u, now() + p_wait) WHERE y.id = u.id;
    ELSIF u.state = 'sent' THEN
        UPDATE units y SET next_attempt_at = now() + p_result_wait, message_id = dramatiq.send(
                p_expire_queue, p_expire_actor_name, jsonb_build_array(u.id), 4, now() + p_result_wait)
            WHERE y.id = u.id;
    ELSE
        UPDATE units y SET settled_at = now(), result_instance_id = x.result_instance_id WHERE y.id = u.id;
    END IF;
    RETURN true;
END $$;
