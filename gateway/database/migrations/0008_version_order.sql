-- Deliver the versions of one SOP Instance UID, on each route, in the order in which they were received.
--
-- A version waits while an earlier one is pending or any other one is in flight. Without this, versions that were sent
-- at the same time could arrive in either order, and the PACS kept the one that arrived last.
--
-- A UID with one version has no extra cost: `instances.versioned` is false, and the order is not checked. The order is
-- that of deliveries.id, which is drawn under the lock of the UID. To put a delivery last, `owe_last` draws another
-- number of the same sequence for `owed_order`.
--
-- Locks of a UID are taken in this order: instances, lock_versions(), the delivery that is waited for, the waiting one.
ALTER TABLE instances ADD COLUMN versioned boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN instances.versioned IS 'more than one version of its SOP Instance UID was received';
ALTER TABLE deliveries
    ADD COLUMN owed_order bigint,
    ADD COLUMN waits_for_version bigint,
    ADD COLUMN is_waited_for boolean NOT NULL DEFAULT false,
    ADD COLUMN may_have_arrived boolean NOT NULL DEFAULT false,
    ADD COLUMN owe_again boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN deliveries.owed_order IS 'its place in the order of versions; NULL: the place is its id';
COMMENT ON COLUMN deliveries.waits_for_version IS 'the delivery of another version that it waited for at its last claim';
COMMENT ON COLUMN deliveries.is_waited_for IS 'a delivery of another version waits for it, or has waited for it';
COMMENT ON COLUMN deliveries.may_have_arrived IS 'one of several versions, sent in an attempt that is not settled: the peer may have it';
COMMENT ON COLUMN deliveries.owe_again IS 'an older version may have arrived during this attempt: send this one again after it';

UPDATE instances SET versioned = true
WHERE sop_instance_uid IN (SELECT sop_instance_uid FROM instances WHERE conflict);

-- Mark all versions of a UID when another version of it is received, in the transaction of that reception. A settle of
-- an earlier version that is under way has locked its row, so this trigger waits for it.
CREATE FUNCTION flag_versions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.instances i SET versioned = true
        WHERE i.sop_instance_uid = NEW.sop_instance_uid AND NOT i.versioned;
    NEW.versioned := true;
    RETURN NEW;
END $$;
CREATE TRIGGER instances_versioned BEFORE INSERT ON instances FOR EACH ROW
    WHEN (NEW.conflict) EXECUTE FUNCTION flag_versions();

-- Return the name of the actor that sends on a route. A test compares it with gateway/domain/contract.py.
CREATE FUNCTION forward_actor(p_route route) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE p_route WHEN 'pacs' THEN 'forward_to_pacs' ELSE 'forward_to_worker' END
$$;

-- Return the place of a delivery in the order of the versions of its UID.
CREATE FUNCTION version_order(d deliveries) RETURNS bigint LANGUAGE sql IMMUTABLE AS
    'SELECT coalesce(d.owed_order, d.id)';

-- Return whether `other` must be settled before a pending delivery may be sent whose place in the order is `p_order`.
CREATE FUNCTION comes_before(other deliveries, p_order bigint) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT other.state = 'in_flight' OR (other.state = 'pending' AND coalesce(other.owed_order, other.id) < p_order)
$$;

-- Return the deliveries of the other versions of a delivery's UID, on the same route.
CREATE FUNCTION other_versions(p_delivery_id bigint) RETURNS SETOF deliveries LANGUAGE sql STABLE AS $$
    SELECT y.* FROM deliveries x
    JOIN instances i ON i.id = x.instance_id
    JOIN instances v ON v.sop_instance_uid = i.sop_instance_uid AND v.id <> i.id
    JOIN deliveries y ON y.instance_id = v.id AND y.route = x.route
    WHERE x.id = p_delivery_id
$$;

-- Return the delivery that a pending one waits for: the last of those that come before it. NULL if it waits for none.
CREATE FUNCTION version_before(p_delivery_id bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT y.id FROM deliveries x CROSS JOIN LATERAL other_versions(x.id) AS y
    WHERE x.id = p_delivery_id AND x.state = 'pending' AND comes_before(y, version_order(x))
    ORDER BY version_order(y) DESC LIMIT 1
$$;

-- Return the number of a version as operators see it; 1 is the version that was received first.
CREATE FUNCTION version_number(p_instance_id bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT count(*) FROM instances i JOIN instances v ON v.sop_instance_uid = i.sop_instance_uid AND v.id <= i.id
    WHERE i.id = p_instance_id
$$;

-- Serialize the claims and settles of one UID. Only called for UIDs with several versions.
CREATE FUNCTION lock_versions(p_sop_instance_uid text) RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('version ' || p_sop_instance_uid, 1))
$$;

-- Return whether a delivery may be sent now, as far as other versions of its UID are concerned. A claim calls this
-- before it locks the delivery. If false, the delivery waits without a message. The delivery that it waits for is
-- marked, so that the trigger `wake_versions` wakes this one when that one is settled.
CREATE FUNCTION is_in_turn(p_delivery_id bigint) RETURNS boolean LANGUAGE plpgsql AS $$
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
        -- If that delivery was settled before its row is locked here, it wakes nobody: look again.
        UPDATE deliveries d SET is_waited_for = true
            WHERE d.id = v_other AND comes_before(d, v_order);
        EXIT WHEN FOUND;
    END LOOP;
    UPDATE deliveries d SET waits_for_version = v_other, message_id = NULL
        WHERE d.id = p_delivery_id AND d.state = 'pending';
    RETURN false;
END $$;

-- pending -> in_flight for a delivery to the PACS whose UID has several versions. All other deliveries are claimed by
-- the statement `claim`, which has the same guards. Return NULL if the delivery is settled, claimed by another process,
-- or waits for another version.
CREATE FUNCTION claim_version(p_delivery_id bigint, p_consumer bigint, p_lease interval, p_destination text)
RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    v_claim_id uuid;
BEGIN
    IF NOT EXISTS (SELECT FROM deliveries d JOIN instances i ON i.id = d.instance_id
                   WHERE d.id = p_delivery_id AND i.versioned AND d.state IN ('pending', 'in_flight'))
        OR NOT is_in_turn(p_delivery_id) THEN
        RETURN NULL;
    END IF;
    UPDATE deliveries d SET state = 'in_flight', claim_id = gen_random_uuid(), claimed_by = p_consumer,
            lease_until = now() + p_lease, next_attempt_at = NULL, destination = p_destination,
            waits_for_version = NULL, may_have_arrived = true
        WHERE d.id = p_delivery_id AND (
            (d.state = 'pending' AND d.next_attempt_at <= now() + interval '1 second')
            OR (d.state = 'in_flight' AND (d.lease_until < now() OR NOT dramatiq.consumer_alive(d.claimed_by))))
        RETURNING d.claim_id INTO v_claim_id;
    RETURN v_claim_id;
END $$;

-- Wake the deliveries that waited for this one, in the transaction that ends their wait: a settle, a cancel, a dead
-- message, a late result or a rescue. NOTIFY makes other commits wait for a moment; UIDs with versions are rare enough.
CREATE FUNCTION wake_versions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.deliveries d SET waits_for_version = NULL, message_id = dramatiq.send(
            d.route::text, public.forward_actor(d.route), jsonb_build_array(d.id), d.priority, d.next_attempt_at, d.id)
        WHERE d.id IN (SELECT y.id FROM public.other_versions(NEW.id) AS y
                       WHERE y.state = 'pending' AND y.waits_for_version = NEW.id
                           AND NOT public.comes_before(NEW, public.version_order(y)))
            AND d.state = 'pending';
    IF FOUND THEN
        PERFORM pg_notify('dramatiq.' || NEW.route || '.enqueue', '');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER deliveries_wake_versions AFTER UPDATE OF state, owed_order ON deliveries FOR EACH ROW
    WHEN (NEW.is_waited_for AND NEW.state <> 'in_flight') EXECUTE FUNCTION wake_versions();

-- Send the newest version again if an attempt with an older one may have reached the peer after the newest. This
-- happens after a resend of an older version, after a redispatch of one, and after an attempt that ended when another
-- process had claimed its delivery.
CREATE FUNCTION owe_newest_again(p_delivery_id bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    y deliveries;
BEGIN
    SELECT newer.* INTO y FROM deliveries x CROSS JOIN LATERAL other_versions(x.id) AS newer
        WHERE x.id = p_delivery_id AND version_order(newer) > version_order(x)
            AND newer.state IN ('pending', 'in_flight', 'delivered')
        ORDER BY version_order(newer) DESC LIMIT 1;
    IF NOT FOUND OR y.state = 'pending' THEN
        RETURN;
    END IF;
    PERFORM FROM instances i WHERE i.id = y.instance_id FOR NO KEY UPDATE;
    UPDATE deliveries d SET owe_again = true WHERE d.id = y.id AND d.state = 'in_flight';
    UPDATE deliveries d SET state = 'pending', attempts = 0, refusals = 0, redispatches = 0, owed_since = now(),
            next_attempt_at = now(), settled_at = NULL, settled_by = NULL,
            last_error = format('sent again, because delivery %s brought an older version after it', p_delivery_id),
            message_id = dramatiq.send(
                d.route::text, forward_actor(d.route), jsonb_build_array(d.id), d.priority, now(), d.id)
        WHERE d.id = y.id AND d.state = 'delivered';
    UPDATE instances i SET place = place_of(i.id) WHERE i.id = y.instance_id AND i.place <> place_of(i.id);
END $$;

-- Send the newest version again when a delivery is given up whose process died in an attempt: the peer may have got
-- the older version in that attempt.
CREATE FUNCTION owe_newest_after_unsettled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.owe_newest_again(NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER deliveries_owe_newest AFTER UPDATE OF state ON deliveries FOR EACH ROW
    WHEN (NEW.may_have_arrived AND NEW.state IN ('dead', 'cancelled')) EXECUTE FUNCTION owe_newest_after_unsettled();

-- Move a repeated instance to the end of the order of its versions, if another version was received after it. It is
-- sent again, also within the duplicate window. Return false, with nothing changed, if no other version was received
-- after it. The caller is a reception, which holds the lock of the UID.
CREATE FUNCTION owe_last(p_instance_id bigint, p_route route, p_actor_name text, p_priority integer)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    d deliveries;
BEGIN
    SELECT * INTO d FROM deliveries x WHERE x.instance_id = p_instance_id AND x.route = p_route;
    IF NOT FOUND OR NOT EXISTS (SELECT FROM other_versions(d.id) AS y WHERE version_order(y) > version_order(d)) THEN
        RETURN false;
    END IF;
    -- If it is in flight, it may reach the peer before the newer ones. When those are settled, it is sent again.
    UPDATE deliveries x SET owed_order = nextval('deliveries_id_seq') WHERE x.id = d.id;
    UPDATE deliveries x SET state = 'pending', priority = p_priority, owed_since = now(), attempts = 0, refusals = 0,
            redispatches = 0, next_attempt_at = now(), settled_at = NULL, settled_by = NULL, last_status = NULL,
            last_error = NULL,
            message_id = dramatiq.send(p_route::text, p_actor_name, jsonb_build_array(x.id), p_priority, now(), x.id)
        WHERE x.id = d.id AND x.state IN ('delivered', 'dead', 'cancelled');
    RETURN true;
END $$;

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
        RETURNING d.route INTO v_route;
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
                v_route::text, p_actor_name, jsonb_build_array(d.id), d.priority, d.next_attempt_at, d.id)
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

-- pending -> in_flight for a worker, before anything is sent to it.
--
-- Choose among the workers that are up and have fewer results outstanding than they may. Prefer the worker of a claim
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
            WHERE i.study_instance_uid = v_study AND NOT EXISTS (
                SELECT FROM expected_results o
                WHERE o.delivery_id = d.id AND o.worker = e.worker AND o.state = 'timed_out')
            ORDER BY e.id DESC LIMIT 1;
    END IF;
    SELECT x.ae_title INTO worker
        FROM destinations x
        CROSS JOIN LATERAL (SELECT count(*) AS n FROM expected_results e
                            WHERE e.worker = x.ae_title AND e.state = 'owed') AS owed
        WHERE x.route = 'workers' AND x.configured AND NOT x.paused AND x.breaker = 'closed'
            AND owed.n < x.max_outstanding AND (v_bound IS NULL OR x.ae_title = v_bound)
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
                message_id = dramatiq.send('workers', p_actor_name, jsonb_build_array(x.id), x.priority,
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
        SELECT x.max_outstanding - count(e.id) INTO v_free
            FROM destinations x LEFT JOIN expected_results e ON e.worker = x.ae_title AND e.state = 'owed'
            WHERE x.ae_title = claim_for_worker.worker GROUP BY x.max_outstanding;
        PERFORM call_waiting(coalesce(d.waits_for, claim_for_worker.worker), v_free + 1);
    END IF;
    verdict := 'claimed';
END $$;
