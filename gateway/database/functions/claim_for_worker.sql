-- pending -> in_flight for a worker, before anything is sent to it.
--
-- Choose among the workers of its application that are up and have fewer results outstanding than they may. A worker of
-- several applications counts what it owes to all of them, whole series and studies, too. Prefer the worker of a claim
-- whose process died, then a worker that has not got this delivery before, then the one that was chosen longest ago.
-- Record the claim, the expected result, and the message that runs at its deadline.
--   claimed     the caller sends the delivery to `worker`
--   answered    the result has arrived already: there is nothing to send
--   no_worker   no worker is free: still pending, due again after `p_wait`. If the worker of its study is busy, one of
--               the deliveries that wait for it (the scout) is due after a quarter of that, the others far later
--   nothing     it is settled, claimed by another process, or waits for another version of its UID
CREATE OR REPLACE FUNCTION claim_for_worker(
    p_delivery_id bigint, p_consumer bigint, p_lease interval, p_result_wait interval, p_by_study boolean,
    p_wait interval, p_actor_name text, p_expire_actor_name text, p_expire_queue text,
    OUT verdict text, OUT claim_id uuid, OUT worker text
) LANGUAGE plpgsql AS $$
DECLARE
    d deliveries;
    v_study text;
    v_versioned boolean;
    v_previous text;
    v_bound text;
    v_wait interval := p_wait;
    v_free integer;
BEGIN
    IF NOT is_in_turn(p_delivery_id) THEN
        SELECT * INTO d FROM deliveries x WHERE x.id = p_delivery_id FOR UPDATE;
        IF d.waits_for IS NOT NULL THEN
            -- It may have been the scout of its worker: wake another one.
            UPDATE deliveries x SET waits_for = NULL WHERE x.id = d.id;
            PERFORM call_waiting(d.waits_for, 1);
        END IF;
        verdict := 'nothing';
        RETURN;
    END IF;
    -- Choose one worker at a time, over all processes, so that the counts and turns below are exact.
    PERFORM pg_advisory_xact_lock(hashtextextended('mini_pacs.worker_turn', 0));
    SELECT * INTO d FROM deliveries x WHERE x.id = p_delivery_id AND x.route = 'workers' FOR UPDATE;
    IF NOT FOUND OR NOT (
        (d.state = 'pending' AND d.next_attempt_at <= now() + interval '1 second')
        OR (d.state = 'in_flight' AND (d.lease_until < now() OR NOT dramatiq.consumer_alive(d.claimed_by)))
    ) THEN
        verdict := 'nothing';
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM expected_results e WHERE e.delivery_id = d.id AND e.state IN ('arrived', 'late')
               AND e.asked_at >= d.owed_since) THEN
        -- An earlier send failed or its actor died, but the worker had got the instance and has answered.
        UPDATE deliveries x SET state = 'delivered', claim_id = NULL, claimed_by = NULL, lease_until = NULL,
            next_attempt_at = NULL, settled_at = now(), message_id = NULL WHERE x.id = d.id;
        verdict := 'answered';
        RETURN;
    END IF;
    IF d.state = 'in_flight' THEN
        -- The process that held the claim is gone. Prefer the same worker: if it got the instance before, it gets
        -- the same bytes again, and no second worker does.
        DELETE FROM expected_results e WHERE e.claim_id = d.claim_id AND e.state = 'owed' RETURNING e.worker
            INTO v_previous;
    END IF;
    SELECT i.study_instance_uid, i.versioned INTO v_study, v_versioned FROM instances i WHERE i.id = d.instance_id;
    IF p_by_study THEN
        -- The worker that got an instance of the study last, if it is up and did not time out on this instance.
        -- If it is busy, the study waits for it.
        SELECT e.worker INTO v_bound
            FROM instances i
            JOIN expected_results e ON e.instance_id = i.id AND e.state <> 'timed_out'
            JOIN destinations x ON x.ae_title = e.worker AND x.configured AND NOT x.paused AND x.breaker = 'closed'
            JOIN application_workers a ON a.ae_title = e.worker AND a.application = d.target
            WHERE i.study_instance_uid = v_study AND NOT EXISTS (
                SELECT FROM expected_results o
                WHERE o.delivery_id = d.id AND o.worker = e.worker AND o.state = 'timed_out')
            ORDER BY e.id DESC LIMIT 1;
    END IF;
    SELECT x.ae_title INTO worker
        FROM destinations x
        JOIN application_workers a ON a.ae_title = x.ae_title AND a.application = d.target
        CROSS JOIN LATERAL (SELECT count(*) AS n FROM expected_results e
                            WHERE e.worker = x.ae_title AND e.state = 'owed') AS owed
        CROSS JOIN LATERAL (SELECT count(*) AS n FROM units u
                            WHERE u.worker = x.ae_title AND u.state IN ('sending', 'sent')) AS whole
        WHERE x.route = 'workers' AND x.configured AND NOT x.paused AND x.breaker = 'closed'
            AND owed.n + whole.n < least(x.max_outstanding, a.max_outstanding) AND (v_bound IS NULL OR x.ae_title = v_bound)
        ORDER BY
            x.ae_title = v_previous DESC NULLS LAST,
            EXISTS (SELECT FROM expected_results e WHERE e.delivery_id = d.id AND e.worker = x.ae_title),
            x.last_turn
        LIMIT 1;
    IF NOT FOUND THEN
        IF v_bound IS NOT NULL THEN
            -- A scout that is overdue by more than 5 seconds does not count: the process that holds its message may
            -- be stopped. This delivery is the scout then.
            v_wait := CASE WHEN EXISTS (
                SELECT FROM deliveries x
                WHERE x.state = 'pending' AND x.waits_for = v_bound AND x.id <> d.id
                    AND x.next_attempt_at BETWEEN now() - interval '5 seconds' AND now() + p_wait)
                THEN p_wait * (45 + 30 * random()) ELSE p_wait / 4 END;
        END IF;
        UPDATE deliveries x SET state = 'pending', claim_id = NULL, claimed_by = NULL, lease_until = NULL,
                next_attempt_at = now() + v_wait, last_error = 'no worker is free', waits_for = v_bound,
                message_id = dramatiq.send(queue_of(x.route, x.target), p_actor_name, jsonb_build_array(x.id), x.priority,
                                           now() + v_wait, x.id)
            WHERE x.id = d.id;
        IF d.waits_for <> coalesce(v_bound, '') THEN
            PERFORM call_waiting(d.waits_for, 1);
        END IF;
        verdict := 'no_worker';
        RETURN;
    END IF;
    UPDATE destinations x SET last_turn = nextval('worker_turn') WHERE x.ae_title = worker;
    claim_id := gen_random_uuid();
    UPDATE deliveries x SET state = 'in_flight', claim_id = claim_for_worker.claim_id, claimed_by = p_consumer,
            lease_until = now() + p_lease, destination = worker, next_attempt_at = NULL, waits_for = NULL,
            waits_for_version = NULL, may_have_arrived = v_versioned
        WHERE x.id = d.id;
    INSERT INTO expected_results (delivery_id, instance_id, worker, claim_id, due_at)
        VALUES (d.id, d.instance_id, claim_for_worker.worker, claim_for_worker.claim_id, now() + p_result_wait);
    UPDATE expected_results e SET message_id = dramatiq.send(
            p_expire_queue, p_expire_actor_name, jsonb_build_array(e.id), 4, e.due_at)
        WHERE e.claim_id = claim_for_worker.claim_id;
    IF p_by_study THEN
        SELECT least(x.max_outstanding, a.max_outstanding) - count(e.id) - (SELECT count(*) FROM units u
                WHERE u.worker = x.ae_title AND u.state IN ('sending', 'sent')) INTO v_free
            FROM destinations x
            JOIN application_workers a ON a.ae_title = x.ae_title AND a.application = d.target
            LEFT JOIN expected_results e ON e.worker = x.ae_title AND e.state = 'owed'
            WHERE x.ae_title = claim_for_worker.worker GROUP BY x.ae_title, x.max_outstanding, a.max_outstanding;
        PERFORM call_waiting(coalesce(d.waits_for, claim_for_worker.worker), v_free + 1);
    END IF;
    verdict := 'claimed';
END $$;
