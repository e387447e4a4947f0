-- collecting | complete -> sending, for exactly one caller; sending -> sending, if the process that sends it is gone or its
-- lease is over. The unit is then sent whole, from its first instance.
--
-- It is complete after its quiet time, unless a file received within that time is unregistered (`p_unregistered_since`: the
-- oldest one); at its longest wait; or because an operator said so.
--   claimed     the caller sends the unit to `worker`
--   collecting  it is not complete: a message for the next look is enqueued
--   no_worker   no worker is free, or an earlier generation is sent first: complete, due again after `p_wait`
--   nothing     it is settled, claimed by another process, or none of its deliveries is owed any more
CREATE OR REPLACE FUNCTION claim_unit(
    p_unit_id bigint, p_consumer bigint, p_lease interval, p_unregistered_since timestamptz, p_wait interval,
    OUT verdict text, OUT claim_id uuid, OUT worker text
) LANGUAGE plpgsql AS $$
DECLARE
    u units;
    a application_units;
    v_quiet_at timestamptz;
    v_full_at timestamptz;
    v_by text;
    v_previous text;
    v_error text;
BEGIN
    verdict := 'nothing';
    SELECT * INTO u FROM units x WHERE x.id = p_unit_id;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended(concat_ws(' ', u.application, u.study_instance_uid, u.uid), 3));
    SELECT * INTO u FROM units x WHERE x.id = p_unit_id FOR UPDATE;
    IF NOT FOUND OR NOT (u.state IN ('collecting', 'complete') OR (
            u.state = 'sending' AND (u.lease_until < now() OR NOT dramatiq.consumer_alive(u.claimed_by)))) THEN
        RETURN;
    END IF;
    SELECT * INTO a FROM application_units x WHERE x.application = u.application;
    IF u.state = 'collecting' THEN
        v_quiet_at := u.last_at + a.complete_after;
        v_full_at := u.first_at + a.max_wait;
        v_by := CASE
            WHEN a.application IS NULL THEN 'configuration'
            WHEN now() >= v_full_at THEN 'max_wait'
            WHEN now() >= v_quiet_at AND coalesce(p_unregistered_since > v_quiet_at, true) THEN 'quiet' END;
        IF v_by IS NULL THEN
            UPDATE units x SET next_attempt_at = greatest(least(v_quiet_at, v_full_at), now() + interval '1 second')
                WHERE x.id = u.id RETURNING * INTO u;
            UPDATE units x SET message_id = wake_unit_at(u, u.next_attempt_at) WHERE x.id = u.id;
            verdict := 'collecting';
            RETURN;
        END IF;
        UPDATE units x SET state = 'complete', completed_at = now(), completed_by = v_by
            WHERE x.id = u.id RETURNING * INTO u;
    END IF;
    IF NOT EXISTS (SELECT FROM deliveries d WHERE d.unit_id = u.id
                   AND (d.state = 'collecting' OR (d.state = 'delivered' AND u.sent_at IS NOT NULL))) THEN
        UPDATE units x SET state = 'cancelled', settled_at = now(), claim_id = NULL, claimed_by = NULL,
                lease_until = NULL, message_id = NULL
            WHERE x.id = u.id;
        RETURN;
    END IF;
    IF u.state = 'sending' THEN
        v_previous := u.worker;
        UPDATE unit_dispatches x SET outcome = 'lost', ended_at = now() WHERE x.claim_id = u.claim_id AND x.outcome IS NULL;
    END IF;
    IF EXISTS (SELECT FROM units e
               WHERE e.application = u.application AND e.study_instance_uid = u.study_instance_uid AND e.uid = u.uid
                   AND e.generation < u.generation
                -- Its instances have not reached a worker. Sent later, an older version would come after a newer one.
                AND (e.state = 'sending' OR (e.state = 'complete' AND e.sent_at IS NULL))) THEN
        v_error := 'an earlier generation is sent first';
    ELSE
        -- the same lock as in claim_for_worker, so that counts and turns are exact
        PERFORM pg_advisory_xact_lock(hashtextextended('mini_pacs.worker_turn', 0));
        SELECT x.ae_title INTO worker
            FROM destinations x
            JOIN application_workers w ON w.ae_title = x.ae_title AND w.application = u.application
            WHERE x.route = 'workers' AND x.configured AND NOT x.paused AND x.breaker = 'closed'
                AND least(x.max_outstanding, w.max_outstanding) > (
                    SELECT count(*) FROM expected_results e WHERE e.worker = x.ae_title AND e.state = 'owed'
                ) + (
                    SELECT count(*) FROM units o
                    WHERE o.worker = x.ae_title AND o.state IN ('sending', 'sent') AND o.id <> u.id)
            ORDER BY
                x.ae_title = v_previous DESC NULLS LAST,
                EXISTS (SELECT FROM unit_dispatches p WHERE p.unit_id = u.id AND p.worker = x.ae_title),
                x.last_turn
            LIMIT 1;
        v_error := 'no worker is free';
    END IF;
    IF worker IS NULL THEN
        UPDATE units x SET state = 'complete', claim_id = NULL, claimed_by = NULL, lease_until = NULL,
                next_attempt_at = now() + p_wait, last_error = v_error
            WHERE x.id = u.id RETURNING * INTO u;
        UPDATE units x SET message_id = wake_unit_at(u, u.next_attempt_at) WHERE x.id = u.id;
        verdict := 'no_worker';
        RETURN;
    END IF;
    IF a.late = 'resend_all' THEN
        -- This generation holds all of the earlier ones, so their results are not expected any more.
        UPDATE units x SET state = 'superseded', settled_at = now(), message_id = NULL, next_attempt_at = NULL
            WHERE x.application = u.application AND x.study_instance_uid = u.study_instance_uid AND x.uid = u.uid
                AND x.generation < u.generation AND x.state IN ('sent', 'complete', 'timed_out') AND x.sent_at IS NOT NULL;
    END IF;
    UPDATE destinations x SET last_turn = nextval('worker_turn') WHERE x.ae_title = claim_unit.worker;
    claim_id := gen_random_uuid();
    UPDATE units x SET state = 'sending', claim_id = claim_unit.claim_id, claimed_by = p_consumer,
            lease_until = now() + p_lease, worker = claim_unit.worker, next_attempt_at = NULL, message_id = NULL
        WHERE x.id = u.id;
    INSERT INTO unit_dispatches (unit_id, worker, claim_id) VALUES (u.id, claim_unit.worker, claim_unit.claim_id);
    verdict := 'claimed';
END $$;

-- Let deliveries wait for the rest of their unit: pending -> collecting. Their messages are deleted; the unit has one.
--
-- The lock orders this and a claim of the unit: a delivery joins before the claim, or it is late. A late delivery begins a
-- new generation, or is cancelled (`ignore`). With `p_again` it was sent before and is owed again: it is never ignored.
CREATE OR REPLACE FUNCTION join_unit(
    p_application text, p_study text, p_uid text, p_delivery_ids bigint[], p_again boolean
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    a application_units;
    u units;
    v_priority integer;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(concat_ws(' ', p_application, p_study, p_uid), 3));
    SELECT * INTO a FROM application_units x WHERE x.application = p_application;
    SELECT * INTO u FROM units x
        WHERE x.application = p_application AND x.study_instance_uid = p_study AND x.uid = p_uid
        ORDER BY x.generation DESC LIMIT 1;
    DELETE FROM dramatiq.queue q USING deliveries d
        WHERE d.id = ANY (p_delivery_ids) AND q.message_id = d.message_id AND q.state = 'queued';
    IF u.id IS NOT NULL AND u.sent_at IS NULL AND u.state IN ('collecting', 'complete') THEN
        UPDATE units x SET last_at = now() WHERE x.id = u.id;
    ELSIF u.id IS NOT NULL AND a.late = 'ignore' AND NOT p_again THEN
        UPDATE deliveries d SET state = 'cancelled', unit_id = u.id, next_attempt_at = NULL, message_id = NULL,
                settled_at = now(), settled_by = 'late: ignore', last_error = 'late: its ' || u.unit || CASE
                    WHEN u.state = 'sending' THEN ' is being sent'
                    WHEN u.sent_at IS NOT NULL THEN ' was sent before'
                    WHEN u.state = 'dead' THEN ' was given up before'
                    ELSE ' was cancelled before' END
            WHERE d.id = ANY (p_delivery_ids) AND d.state = 'pending';
        UPDATE instances i SET place = place_of(i.id) FROM deliveries d
            WHERE d.id = ANY (p_delivery_ids) AND i.id = d.instance_id AND i.place <> place_of(i.id);
        RETURN;
    ELSE
        SELECT min(d.priority) INTO v_priority FROM deliveries d WHERE d.id = ANY (p_delivery_ids);
        INSERT INTO units (application, unit, study_instance_uid, uid, generation, priority, next_attempt_at)
            VALUES (p_application, a.unit, p_study, p_uid, coalesce(u.generation, 0) + 1, v_priority,
                    now() + a.complete_after)
            RETURNING * INTO u;
        UPDATE units x SET message_id = wake_unit_at(x, x.next_attempt_at) WHERE x.id = u.id;
    END IF;
    UPDATE deliveries d SET state = 'collecting', unit_id = u.id, next_attempt_at = NULL, message_id = NULL
        WHERE d.id = ANY (p_delivery_ids) AND d.state = 'pending';
END $$;

-- A delivery of a unit that is owed again (repeat, retry or resend) joins the unit that is collected now, or begins a new
-- generation. Its application may get whole studies now, and have got whole series before, or the other way round.
CREATE OR REPLACE FUNCTION collect_again() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    r record;
BEGIN
    SELECT u.application, u.study_instance_uid AS study,
            CASE a.unit WHEN u.unit THEN u.uid WHEN 'study' THEN u.study_instance_uid ELSE i.series_instance_uid END AS uid
        INTO r
        FROM units u
        JOIN application_units a ON a.application = u.application
        JOIN instances i ON i.id = NEW.instance_id
        WHERE u.id = NEW.unit_id;
    IF FOUND THEN
        PERFORM join_unit(r.application, r.study, r.uid, ARRAY[NEW.id], true);
    END IF;
    RETURN NULL;
END $$;
