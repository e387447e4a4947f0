-- An application that gets whole series or studies ends with the newest version of each instance, as an archive does: a
-- retry or resend of an older version alone is followed by the newest one. This also holds while the unit of an application
-- changes. Additive.

-- Return whether `other` must be settled before a pending delivery may be sent whose place in the order is `p_order`. A
-- delivery that is collecting is sent with its series or study, at a time that nothing else decides.
CREATE OR REPLACE FUNCTION comes_before(other deliveries, p_order bigint) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT other.state IN ('in_flight', 'collecting') OR (other.state = 'pending' AND coalesce(other.owed_order, other.id) < p_order)
$$;

-- Send the newest versions again that an application got before the older ones which a unit brings now: delivered -> pending,
-- so they join this unit or the next one. Return false, with nothing changed, if another version of one of its instances is
-- being sent, or if a newest version is locked by another transaction.
--
-- The caller holds the lock of the unit. A registration locks instances before it, so this never waits for an instance.
CREATE OR REPLACE FUNCTION owe_newer_versions(p_unit units) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_members bigint[] := ARRAY(
        SELECT m.id FROM unit_members(p_unit) AS m JOIN instances i ON i.id = m.instance_id WHERE i.versioned);
    v_newest bigint[];
BEGIN
    IF EXISTS (SELECT FROM unnest(v_members) AS m (id) CROSS JOIN LATERAL other_versions(m.id) AS y WHERE y.state = 'in_flight') THEN
        RETURN false;
    END IF;
    v_newest := ARRAY(
        SELECT DISTINCT newest.id FROM deliveries m CROSS JOIN LATERAL (
            SELECT y.id, y.state FROM other_versions(m.id) AS y
            WHERE version_order(y) > version_order(m) AND y.state IN ('collecting', 'pending', 'delivered')
            ORDER BY version_order(y) DESC LIMIT 1) AS newest
        WHERE m.id = ANY (v_members) AND newest.state = 'delivered' AND newest.id <> ALL (v_members));
    IF cardinality(v_newest) = 0 THEN
        RETURN true;
    END IF;
    IF (SELECT count(*) FROM (
            SELECT FROM instances i JOIN deliveries d ON d.instance_id = i.id WHERE d.id = ANY (v_newest)
            FOR NO KEY UPDATE OF i SKIP LOCKED) AS locked) < cardinality(v_newest) THEN
        RETURN false;
    END IF;
    UPDATE deliveries d SET state = 'pending', attempts = 0, refusals = 0, redispatches = 0, owed_since = now(),
            next_attempt_at = now(), settled_at = NULL, settled_by = NULL,
            last_error = 'sent again, because an older version is sent again',
            message_id = dramatiq.send(
                queue_of(d.route, d.target), forward_actor(d.route), jsonb_build_array(d.id), d.priority, now(), d.id)
        WHERE d.id = ANY (v_newest) AND d.state = 'delivered';
    UPDATE instances i SET place = place_of(i.id) FROM deliveries d
        WHERE d.id = ANY (v_newest) AND i.id = d.instance_id AND i.place <> place_of(i.id);
    RETURN true;
END $$;

-- collecting | complete -> sending, for exactly one caller; sending -> sending, if the process that sends it is gone or its
-- lease is over. The unit is then sent whole, from its first instance.
--
-- The application must end with the newest version of each instance. If it has got a newer one than a unit brings, which
-- happens after a retry or resend of an older version, the newer one is owed again, and joins this unit or the next one.
--
-- It is complete after its quiet time, unless a file received within that time is unregistered (`p_unregistered_since`: the
-- oldest one); at its longest wait; or because an operator said so.
--   claimed     the caller sends the unit to `worker`
--   collecting  it is not complete: a message for the next look is enqueued
--   no_worker   no worker is free, an earlier generation is sent first, or another version of an instance is under way:
--               complete, due again after `p_wait`
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
    IF worker IS NOT NULL AND NOT owe_newer_versions(u) THEN
        worker := NULL;
        v_error := 'another version of one of its instances is under way';
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
