-- Act on one expected result at its deadline: send the instance to another worker, at most `p_max_redispatch` times.
--   nothing       without `worker`: the result is no longer expected. With `worker`: this worker timed out, but another
--                 one has answered, so no other is asked
--   postponed     the send is not settled, or the deadline was moved: a message for the new deadline is enqueued
--   redispatched  the delivery is pending again, with a message
--   timed_out     no other worker is asked
CREATE OR REPLACE FUNCTION expire_expectation(
    p_expectation_id bigint, p_max_redispatch integer, p_result_wait interval, p_actor_name text,
    p_expire_actor_name text, p_expire_queue text,
    OUT verdict text, OUT worker text, OUT delivery_id bigint, OUT instance_id bigint
) LANGUAGE plpgsql AS $$
DECLARE
    e expected_results;
    d deliveries;
BEGIN
    -- The delivery before what is expected of it, as a claim and a settle do: one order of locks.
    SELECT * INTO d FROM deliveries x
        WHERE x.id = (SELECT y.delivery_id FROM expected_results y WHERE y.id = p_expectation_id) FOR UPDATE;
    SELECT * INTO e FROM expected_results x WHERE x.id = p_expectation_id FOR UPDATE;
    IF NOT FOUND OR e.state <> 'owed' THEN
        verdict := 'nothing';
        RETURN;
    END IF;
    worker := e.worker;
    delivery_id := e.delivery_id;
    instance_id := e.instance_id;
    IF e.due_at > now() OR (d.state = 'in_flight' AND d.claim_id = e.claim_id) THEN
        -- not before its time; and while the send is under way, not before that has ended
        UPDATE expected_results x SET
                due_at = CASE WHEN x.due_at > now() THEN x.due_at ELSE now() + p_result_wait / 2 END
            WHERE x.id = e.id RETURNING x.due_at INTO e.due_at;
        UPDATE expected_results x SET message_id = dramatiq.send(
                p_expire_queue, p_expire_actor_name, jsonb_build_array(x.id), 4, e.due_at)
            WHERE x.id = e.id;
        verdict := 'postponed';
        RETURN;
    END IF;
    UPDATE expected_results x SET state = 'timed_out', message_id = NULL WHERE x.id = e.id;
    IF EXISTS (SELECT FROM expected_results x WHERE x.delivery_id = d.id AND x.state IN ('arrived', 'late')
               AND x.arrived_at >= d.owed_since) THEN
        -- from a worker that was slow, after this one had been sent the instance in its place
        verdict := 'nothing';
    ELSIF d.state = 'delivered' AND d.redispatches < p_max_redispatch THEN
        UPDATE deliveries x SET state = 'pending', redispatches = x.redispatches + 1, attempts = 0, refusals = 0,
                next_attempt_at = now(), settled_at = NULL, last_error = e.worker || ' did not answer in time',
                message_id = dramatiq.send(queue_of(x.route, x.target), p_actor_name, jsonb_build_array(x.id), x.priority,
                                           now(), x.id)
            WHERE x.id = d.id;
        verdict := 'redispatched';
    ELSE
        verdict := 'timed_out';
    END IF;
END $$;
