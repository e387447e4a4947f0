-- Act on the result of a unit at its deadline: send the unit whole to another worker, at most `p_max_redispatch` times.
--   nothing       the result is no longer expected
--   postponed     the deadline was moved
--   redispatched  the unit is complete again, with a message
--   timed_out     no other worker is asked
CREATE OR REPLACE FUNCTION expire_unit(
    p_unit_id bigint, p_max_redispatch integer, p_expire_actor_name text, p_expire_queue text,
    OUT verdict text, OUT worker text, OUT application text, OUT study_instance_uid text
) LANGUAGE plpgsql AS $$
DECLARE
    u units;
BEGIN
    SELECT * INTO u FROM units x WHERE x.id = p_unit_id FOR UPDATE;
    IF NOT FOUND OR u.state <> 'sent' THEN
        verdict := 'nothing';
        RETURN;
    END IF;
    worker := u.worker;
    application := u.application;
    study_instance_uid := u.study_instance_uid;
    IF u.next_attempt_at > now() THEN
        UPDATE units x SET message_id = dramatiq.send(
                p_expire_queue, p_expire_actor_name, jsonb_build_array(u.id), 4, u.next_attempt_at)
            WHERE x.id = u.id;
        verdict := 'postponed';
        RETURN;
    END IF;
    UPDATE unit_dispatches x SET timed_out_at = now()
        WHERE x.id = (SELECT max(y.id) FROM unit_dispatches y WHERE y.unit_id = u.id);
    IF u.redispatches < p_max_redispatch THEN
        UPDATE units x SET state = 'complete', redispatches = x.redispatches + 1, failures = 0, next_attempt_at = now(),
                last_error = u.worker || ' did not answer in time', message_id = wake_unit_at(u, now())
            WHERE x.id = u.id;
        verdict := 'redispatched';
    ELSE
        UPDATE units x SET state = 'timed_out', settled_at = now(), next_attempt_at = NULL, message_id = NULL,
                last_error = u.worker || ' did not answer in time'
            WHERE x.id = u.id;
        verdict := 'timed_out';
    END IF;
    PERFORM wake_next_unit(u.application);
END $$;
