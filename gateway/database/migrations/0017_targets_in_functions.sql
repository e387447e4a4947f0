-- breaking: stop the sweep and the actors of the version before
-- The functions that know what a target is (0016).

-- Return the queue that holds the messages of a target. A test compares it with Target.queue in
-- gateway/domain/routing.py.
CREATE OR REPLACE FUNCTION queue_of(p_route route, p_target text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN p_route = 'archives' THEN 'archives.' || p_target
        WHEN p_route = 'workers' AND p_target <> 'default' THEN 'workers.' || p_target
        ELSE p_route::text END
$$;

-- Name the target of a delivery that version 0.2.0 inserts: it knows one PACS, and the application `default`.
CREATE OR REPLACE FUNCTION name_target() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.target := CASE WHEN NEW.route = 'workers' THEN 'default' ELSE coalesce(
        (SELECT x.ae_title FROM public.destinations x WHERE x.route = 'pacs' ORDER BY x.configured DESC LIMIT 1), 'PACS') END;
    RETURN NEW;
END $$;
CREATE TRIGGER deliveries_name_target BEFORE INSERT ON deliveries
    FOR EACH ROW WHEN (NEW.target IS NULL) EXECUTE FUNCTION name_target();

-- Return the name of the actor that sends on a route. A test compares it with gateway/domain/contract.py.
CREATE OR REPLACE FUNCTION forward_actor(p_route route) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE p_route WHEN 'pacs' THEN 'forward_to_pacs' WHEN 'archives' THEN 'forward_to_archive'
        ELSE 'forward_to_worker' END
$$;

-- Return the deliveries of the other versions of a delivery's UID, owed to the same target.
CREATE OR REPLACE FUNCTION other_versions(p_delivery_id bigint) RETURNS SETOF deliveries LANGUAGE sql STABLE AS $$
    SELECT y.* FROM deliveries x
    JOIN instances i ON i.id = x.instance_id
    JOIN instances v ON v.sop_instance_uid = i.sop_instance_uid AND v.id <> i.id
    JOIN deliveries y ON y.instance_id = v.id AND y.route = x.route AND y.target = x.target
    WHERE x.id = p_delivery_id
$$;

-- Return the folder of an instance's file, which shows the state of its deliveries.
--   failed     one is dead, or all were cancelled
--   queued     one is not settled, and had an attempt or an error
--   incoming   one is not settled, and none of those had an attempt or an error
--   sent       all are settled, and one was delivered; or it is owed to no target
CREATE OR REPLACE FUNCTION place_of(p_instance_id bigint) RETURNS instance_place LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN bool_or(state = 'dead') THEN 'failed'
        WHEN bool_or(state IN ('pending', 'in_flight')) THEN
            CASE WHEN bool_or(state IN ('pending', 'in_flight') AND (attempts > 0 OR last_error IS NOT NULL))
                 THEN 'queued' ELSE 'incoming' END
        WHEN bool_or(state = 'delivered') OR count(*) = 0 THEN 'sent'
        ELSE 'failed' END::instance_place
    FROM deliveries WHERE instance_id = p_instance_id;
$$;

-- Return how many messages of a queue may be claimed now, at most `wanted`. For an archive: none while it is paused, its
-- breaker is open, or it is not configured. For an application: as many results as those of its workers that are up may
-- still have outstanding. So a target that cannot take anything causes no claims.
CREATE OR REPLACE FUNCTION dramatiq.room(queue_name text, wanted integer) RETURNS integer
LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN room.queue_name = 'pacs' THEN CASE WHEN EXISTS (
            SELECT FROM public.destinations x
            WHERE x.route = 'pacs' AND x.configured AND (x.paused OR x.breaker = 'open')) THEN 0 ELSE wanted END
        WHEN room.queue_name = 'workers' OR starts_with(room.queue_name, 'workers.') THEN least(wanted, (
            SELECT coalesce(sum(greatest(least(x.max_outstanding, a.max_outstanding) - owed.n, 0)), 0)::integer
            FROM public.application_workers a
            JOIN public.destinations x ON x.ae_title = a.ae_title
            CROSS JOIN LATERAL (SELECT count(*) AS n FROM public.expected_results e
                                WHERE e.worker = x.ae_title AND e.state = 'owed') AS owed
            WHERE a.application = CASE room.queue_name WHEN 'workers' THEN 'default'
                                  ELSE substr(room.queue_name, length('workers.') + 1) END
                AND x.route = 'workers' AND x.configured AND NOT x.paused AND x.breaker = 'closed'))
        WHEN starts_with(room.queue_name, 'archives.') THEN CASE WHEN EXISTS (
            SELECT FROM public.destinations x
            WHERE x.ae_title = substr(room.queue_name, length('archives.') + 1) AND x.route = 'archives'
                AND x.configured AND NOT x.paused AND x.breaker = 'closed') THEN wanted ELSE 0 END
        ELSE wanted END;
$$;

-- pending -> in_flight for a worker, before anything is sent to it.
--
-- Choose among the workers of its application that are up and have fewer results outstanding than they may. A worker of
-- several applications counts what it owes to all of them. Prefer the worker of a claim
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
        WHERE x.route = 'workers' AND x.configured AND NOT x.paused AND x.breaker = 'closed'
            AND owed.n < least(x.max_outstanding, a.max_outstanding) AND (v_bound IS NULL OR x.ae_title = v_bound)
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
        SELECT least(x.max_outstanding, a.max_outstanding) - count(e.id) INTO v_free
            FROM destinations x
            JOIN application_workers a ON a.ae_title = x.ae_title AND a.application = d.target
            LEFT JOIN expected_results e ON e.worker = x.ae_title AND e.state = 'owed'
            WHERE x.ae_title = claim_for_worker.worker GROUP BY x.max_outstanding, a.max_outstanding;
        PERFORM call_waiting(coalesce(d.waits_for, claim_for_worker.worker), v_free + 1);
    END IF;
    verdict := 'claimed';
END $$;

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

-- Move a delivery of a repeated instance to the end of the order of its versions, if another version was received before
-- the repeat and after the instance. It is sent again, also within the duplicate window. Return false, with nothing
-- changed, if there is no such version, if a version was received after the repeat, or if the delivery was cancelled or
-- dead only after the repeat was received. The caller is a registration, which holds the lock of the UID.
CREATE OR REPLACE FUNCTION owe_delivery_last(
    p_delivery_id bigint, p_actor_name text, p_priority integer, p_received_at timestamptz
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    d deliveries;
BEGIN
    SELECT * INTO d FROM deliveries x WHERE x.id = p_delivery_id;
    IF NOT FOUND OR (d.state IN ('dead', 'cancelled') AND d.settled_at >= p_received_at)
        OR NOT EXISTS (SELECT FROM other_versions(d.id) AS y WHERE version_order(y) > version_order(d))
        OR EXISTS (
            SELECT FROM instances i JOIN instances v ON v.sop_instance_uid = i.sop_instance_uid AND v.id <> i.id
            WHERE i.id = d.instance_id AND greatest(v.received_at, v.repeated_at) > p_received_at) THEN
        RETURN false;
    END IF;
    -- If it is in flight, it may reach the peer before the newer ones. When those are settled, it is sent again.
    UPDATE deliveries x SET owed_order = nextval('deliveries_id_seq') WHERE x.id = d.id;
    UPDATE deliveries x SET state = 'pending', priority = p_priority, owed_since = now(), attempts = 0, refusals = 0,
            redispatches = 0, next_attempt_at = now(), settled_at = NULL, settled_by = NULL, last_status = NULL,
            last_error = NULL,
            message_id = dramatiq.send(
                queue_of(x.route, x.target), p_actor_name, jsonb_build_array(x.id), p_priority, now(), x.id)
        WHERE x.id = d.id AND x.state IN ('delivered', 'dead', 'cancelled');
    RETURN true;
END $$;

-- Send the newest version again if an attempt with an older one may have reached the peer after the newest. This
-- happens after a resend of an older version, after a redispatch of one, and after an attempt that ended when another
-- process had claimed its delivery.
CREATE OR REPLACE FUNCTION owe_newest_again(p_delivery_id bigint) RETURNS void LANGUAGE plpgsql AS $$
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
                queue_of(d.route, d.target), forward_actor(d.route), jsonb_build_array(d.id), d.priority, now(), d.id)
        WHERE d.id = y.id AND d.state = 'delivered';
    UPDATE instances i SET place = place_of(i.id) WHERE i.id = y.instance_id AND i.place <> place_of(i.id);
END $$;

-- in_flight -> pending, for the holder of a claim that may not send now. No attempt was made, so none is recorded.
-- `p_wait` is long; normally `call_parked` ends the wait before.
CREATE OR REPLACE FUNCTION park_delivery(
    p_delivery_id bigint, p_claim_id uuid, p_ae_title text, p_reason text, p_wait interval, p_actor_name text,
    OUT settled boolean, OUT place_before instance_place, OUT place_after instance_place
) LANGUAGE plpgsql AS $$
DECLARE
    v_instance_id bigint;
BEGIN
    -- Lock the instance before the delivery, as a reception and a settle do: one order of locks.
    SELECT i.id, i.place INTO v_instance_id, place_before FROM instances i
        WHERE i.id = (SELECT d.instance_id FROM deliveries d WHERE d.id = p_delivery_id) FOR NO KEY UPDATE;
    UPDATE deliveries d SET state = 'pending', claim_id = NULL, claimed_by = NULL, lease_until = NULL,
            next_attempt_at = now() + p_wait, last_error = p_reason, parked_for = p_ae_title,
            message_id = dramatiq.send(queue_of(d.route, d.target), p_actor_name, jsonb_build_array(d.id), d.priority,
                                       now() + p_wait, d.id)
        WHERE d.id = p_delivery_id AND d.state = 'in_flight' AND d.claim_id = p_claim_id;
    settled := FOUND;
    IF settled THEN
        place_after := place_of(v_instance_id);
        UPDATE instances i SET place = place_after WHERE i.id = v_instance_id AND i.place <> place_after;
    END IF;
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

-- Wake the deliveries that waited for this one, in the transaction that ends their wait: a settle, a cancel, a dead
-- message, a late result or a rescue. NOTIFY makes other commits wait for a moment; UIDs with versions are rare enough.
CREATE OR REPLACE FUNCTION wake_versions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.deliveries d SET waits_for_version = NULL, message_id = dramatiq.send(
            public.queue_of(d.route, d.target), public.forward_actor(d.route), jsonb_build_array(d.id), d.priority, d.next_attempt_at, d.id)
        WHERE d.id IN (SELECT y.id FROM public.other_versions(NEW.id) AS y
                       WHERE y.state = 'pending' AND y.waits_for_version = NEW.id
                           AND NOT public.comes_before(NEW, public.version_order(y)))
            AND d.state = 'pending';
    IF FOUND THEN
        PERFORM pg_notify('dramatiq.' || NEW.route || '.enqueue', '');
    END IF;
    RETURN NULL;
END $$;

-- The same as in 0014, with targets.
DROP FUNCTION register_receptions(
    text[], text[], text[], text[], text[], bytea[], bigint[], text[], text[], text[], instance_kind[], text[], text[],
    text[], integer[], text[], text, interval, uuid[], timestamptz[]);
DROP FUNCTION register_reception(
    text, text, text, text, text, bytea, bigint, text, text, text, instance_kind, text, route[], text[], integer, text,
    text, interval, uuid, timestamptz);
DROP FUNCTION owe_last_received(bigint, route, text, integer, timestamptz);

-- Register one reception: write the row of its instance, its deliveries and their messages in the caller's transaction. A
-- reception that is registered already changes nothing, so a caller that does not know the outcome of its commit calls
-- again.
--
-- A repeat is not sent again while its delivery is under way, nor if it was delivered less than `p_window` before it was
-- received. Later, or if the delivery was dead or cancelled before it was received, it is sent again (G4). All times are
-- times of reception, because a reception may be registered hours later.
--
-- `p_origin` is what the caller is; see Origin in gateway/domain/routing.py:
--   archive          an archive, by AE title and address. Its repeat does not renew a delivery to an archive that was
--                    delivered. So two archives that send on all they get make no circle
--   perhaps_archive  perhaps an archive: the window is at least 30 s. After such repeats of an instance were sent again
--                    five times, the window doubles with each further one, up to a day
--   worker           a worker: its repeats are never counted as not forwarded
--   sender           any other caller
--
-- `p_routes`, `p_targets` and `p_actor_names` belong together: what the instance is owed to (gateway/domain/routing.py).
-- `p_result_targets` and so on are those of a result.
--
-- A stored result stays a result, whoever repeats it. A new version of a stored result is a result, too, unless an
-- original with that UID is stored as well and the caller cannot be an archive. A result is sent to archives only, so it
-- never reaches a worker.
--
-- Verdicts:
--   registered     this reception is registered already; nothing was done
--   stored         a new row
--   conflict       a new row; another version of the same SOP Instance UID is stored
--   duplicate      its delivery is under way, or a worker repeated it; the caller's file is superfluous
--   not_forwarded  it was delivered and is not sent again; counted; the caller's file is superfluous
--   owed_again     the stored file is sent again; the caller's file is superfluous
--   owed_in_part   like owed_again, but not to an archive, which may be the caller; counted
--   equals_source  a result with the bytes of a stored original: sent only to archives to which the original has no
--                  delivery; the caller's file is superfluous
--   name_taken     nothing was done: another version has that file name; call again with another name
CREATE OR REPLACE FUNCTION register_reception(
    p_sop_instance_uid text, p_study_instance_uid text, p_series_instance_uid text, p_sop_class_uid text,
    p_transfer_syntax_uid text, p_sha256 bytea, p_data_set_size bigint, p_calling_ae_title text,
    p_called_ae_title text, p_remote_address text, p_kind instance_kind, p_file_name text,
    p_routes route[], p_targets text[], p_actor_names text[], p_priority integer, p_origin text,
    p_result_routes route[], p_result_targets text[], p_result_actor_names text[], p_window interval,
    p_reception_id uuid, p_received_at timestamptz,
    OUT instance_id bigint, OUT verdict text, OUT kept_file_name text, OUT kept_place instance_place,
    OUT kept_kind instance_kind
) LANGUAGE plpgsql AS $$
DECLARE
    is_conflict boolean;
    is_taken boolean;
    has_original boolean;
    has_result boolean;
    equals_source boolean;
    owed_again boolean := false;
    is_returned boolean := p_origin IN ('archive', 'perhaps_archive');
    v_routes route[] := p_routes;
    v_targets text[] := p_targets;
    v_actor_names text[] := p_actor_names;
    v_reception_id uuid;
    v_returned integer;
    v_window interval;
    v_returned_window interval;
    may_be_back boolean;
    is_back boolean;
    returned_again boolean := false;
    -- The receiver's clock may be ahead of PostgreSQL's.
    v_received_at timestamptz := least(p_received_at, now());
    v_delivery_id bigint;
BEGIN
    -- Versions of one SOP Instance UID are received one after the other, so that the second sees the first.
    PERFORM pg_advisory_xact_lock(hashtextextended(p_sop_instance_uid, 1));
    -- NO KEY: a claim holds its delivery and inserts a row that refers to the instance; it must not wait for this lock.
    SELECT i.id, i.file_name, i.place, i.kind, i.returned, i.reception_id
        INTO instance_id, kept_file_name, kept_place, kept_kind, v_returned, v_reception_id
        FROM instances i WHERE i.sop_instance_uid = p_sop_instance_uid AND i.sha256 = p_sha256
        FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        SELECT count(*) > 0, coalesce(bool_or(i.file_name = p_file_name), false),
                coalesce(bool_or(i.kind = 'original'), false), coalesce(bool_or(i.kind = 'result'), false)
            INTO is_conflict, is_taken, has_original, has_result
            FROM instances i WHERE i.sop_instance_uid = p_sop_instance_uid;
        IF is_taken THEN
            verdict := 'name_taken';
            RETURN;
        END IF;
        kept_kind := CASE WHEN has_result AND (NOT has_original OR is_returned)
                          THEN 'result' ELSE p_kind END;
        IF kept_kind <> p_kind THEN
            v_routes := p_result_routes;
            v_targets := p_result_targets;
            v_actor_names := p_result_actor_names;
        END IF;
        INSERT INTO instances (sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid,
                transfer_syntax_uid, sha256, data_set_size, calling_ae_title, called_ae_title, remote_address,
                kind, conflict, file_name, reception_id, received_at)
            VALUES (p_sop_instance_uid, p_study_instance_uid, p_series_instance_uid, p_sop_class_uid,
                p_transfer_syntax_uid, p_sha256, p_data_set_size, p_calling_ae_title, p_called_ae_title,
                p_remote_address, kept_kind, is_conflict, p_file_name, p_reception_id, v_received_at)
            RETURNING id, file_name, place INTO instance_id, kept_file_name, kept_place;
        -- Draw the ids first, so that one statement writes each row once.
        INSERT INTO deliveries (id, instance_id, route, target, priority, message_id) OVERRIDING SYSTEM VALUE
            SELECT owed.id, register_reception.instance_id, owed.route, owed.target, p_priority, dramatiq.send(
                queue_of(owed.route, owed.target), owed.actor_name, jsonb_build_array(owed.id), p_priority, now(), owed.id)
            FROM (SELECT nextval('deliveries_id_seq') AS id, r.route, r.target, r.actor_name
                  FROM unnest(v_routes, v_targets, v_actor_names) AS r (route, target, actor_name)) AS owed;
        IF is_conflict THEN
            PERFORM put_before_later_versions(instance_id);
        END IF;
        verdict := CASE WHEN is_conflict THEN 'conflict' ELSE 'stored' END;
        RETURN;
    END IF;
    IF v_reception_id = p_reception_id THEN
        verdict := 'registered';
        RETURN;
    END IF;
    INSERT INTO repeats (reception_id, instance_id) VALUES (p_reception_id, instance_id) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        verdict := 'registered';
        RETURN;
    END IF;
    equals_source := p_kind = 'result' AND kept_kind = 'original';
    IF kept_kind = 'result' AND p_kind = 'original' THEN
        v_routes := p_result_routes;
        v_targets := p_result_targets;
        v_actor_names := p_result_actor_names;
    END IF;
    v_returned_window := least(
        greatest(p_window, interval '30 seconds') * power(2, least(greatest(v_returned - 4, 0), 16)),
        greatest(p_window, interval '1 day'));
    FOR n IN 1 .. cardinality(v_routes) LOOP
        may_be_back := is_returned AND v_routes[n] <> 'workers';
        v_window := CASE WHEN may_be_back THEN v_returned_window ELSE p_window END;
        SELECT d.id, may_be_back AND (p_origin = 'archive' OR (
                d.state = 'delivered' AND d.settled_at >= v_received_at - v_window))
            INTO v_delivery_id, is_back FROM deliveries d
            WHERE d.instance_id = register_reception.instance_id AND d.route = v_routes[n] AND d.target = v_targets[n];
        -- If another version was received after this one, the repeat is the newest reception and is sent last.
        -- Exception: within the window an archive may have sent back what it just got.
        IF v_delivery_id IS NOT NULL AND NOT equals_source AND NOT is_back
            AND owe_delivery_last(v_delivery_id, v_actor_names[n], p_priority, v_received_at) THEN
            owed_again := true;
            returned_again := returned_again OR (may_be_back AND p_origin = 'perhaps_archive');
            CONTINUE;
        END IF;
        INSERT INTO deliveries AS d (instance_id, route, target, priority)
            VALUES (instance_id, v_routes[n], v_targets[n], p_priority)
            ON CONFLICT ON CONSTRAINT deliveries_one_per_route DO UPDATE
                SET state = 'pending', priority = p_priority, owed_since = now(), attempts = 0, refusals = 0,
                    redispatches = 0, next_attempt_at = now(), settled_at = NULL, settled_by = NULL,
                    last_status = NULL, last_error = NULL
                WHERE NOT equals_source AND (
                    (d.state IN ('dead', 'cancelled') AND coalesce(d.settled_at, '-infinity') < v_received_at)
                    OR (d.state = 'delivered' AND d.settled_at < v_received_at - v_window
                        AND NOT (may_be_back AND p_origin = 'archive')))
            RETURNING d.id INTO v_delivery_id;
        IF FOUND THEN
            owed_again := true;
            returned_again := returned_again OR (may_be_back AND p_origin = 'perhaps_archive');
            UPDATE deliveries d SET message_id = dramatiq.send(
                    queue_of(d.route, d.target), v_actor_names[n], jsonb_build_array(v_delivery_id), p_priority, now(),
                    v_delivery_id)
                WHERE d.id = v_delivery_id;
        END IF;
    END LOOP;
    v_returned := v_returned + returned_again::integer;
    IF equals_source THEN
        verdict := 'equals_source';
    ELSIF owed_again THEN
        verdict := CASE WHEN p_origin = 'perhaps_archive' AND EXISTS (
            SELECT FROM deliveries d WHERE d.instance_id = register_reception.instance_id
                AND d.route <> 'workers' AND d.state = 'delivered') THEN 'owed_in_part' ELSE 'owed_again' END;
    ELSIF p_origin <> 'worker' AND EXISTS (
        SELECT FROM deliveries d WHERE d.instance_id = register_reception.instance_id
            AND d.route = ANY (v_routes) AND d.state = 'delivered') THEN
        verdict := 'not_forwarded';
    ELSE
        verdict := 'duplicate';
    END IF;
    UPDATE instances i SET
            repeats = i.repeats + 1, repeated_at = greatest(i.repeated_at, v_received_at), returned = v_returned,
            unforwarded = i.unforwarded + (verdict IN ('not_forwarded', 'owed_in_part'))::integer,
            unforwarded_at = CASE WHEN verdict IN ('not_forwarded', 'owed_in_part') THEN v_received_at
                                  ELSE i.unforwarded_at END,
            unforwarded_from = CASE WHEN verdict IN ('not_forwarded', 'owed_in_part') THEN p_calling_ae_title
                                    ELSE i.unforwarded_from END
        WHERE i.id = instance_id;
END $$;

-- Register a batch of receptions: one statement writes all instances that are new. PostgreSQL reads the constraints of a table and the
-- predicates of its indexes anew for every statement, which costs more than a row.
--
-- If a SOP Instance UID is stored already, or occurs twice in the batch, register_reception decides as for a single
-- instance; verdicts, guards and order of locks are the same. The routes of each instance are separated by commas, and
-- so are their actors; their targets by backslashes, which no AE title has. The caller sorts the batch by SOP Instance UID, so that two batches lock in the same order,
-- and within one UID by time of reception. The messages of a batch are due in the order of reception, so instances
-- are sent in that order.
CREATE OR REPLACE FUNCTION register_receptions(
    p_sop_instance_uid text[], p_study_instance_uid text[], p_series_instance_uid text[], p_sop_class_uid text[],
    p_transfer_syntax_uid text[], p_sha256 bytea[], p_data_set_size bigint[], p_calling_ae_title text[],
    p_called_ae_title text[], p_remote_address text[], p_kind instance_kind[], p_file_name text[],
    p_routes text[], p_targets text[], p_actor_names text[], p_priority integer[], p_origin text[],
    p_result_routes route[], p_result_targets text[], p_result_actor_names text[], p_window interval, p_reception_id uuid[], p_received_at timestamptz[]
) RETURNS TABLE (
    "position" integer, instance_id bigint, verdict text, kept_file_name text, kept_place instance_place,
    kept_kind instance_kind
) LANGUAGE plpgsql AS $$
DECLARE
    v_new integer[];
BEGIN
    FOR n IN 1 .. cardinality(p_sop_instance_uid) LOOP
        PERFORM pg_advisory_xact_lock(hashtextextended(p_sop_instance_uid[n], 1));
    END LOOP;
    -- A new statement after the locks, so that it sees what was committed by those who held them before.
    v_new := ARRAY(
        SELECT t.n FROM unnest(p_sop_instance_uid) WITH ORDINALITY AS t (uid, n)
        WHERE NOT EXISTS (SELECT FROM instances i WHERE i.sop_instance_uid = t.uid)
            AND cardinality(array_positions(p_sop_instance_uid, t.uid)) = 1);
    -- Draw the ids first, so that each row is written once.
    RETURN QUERY
    WITH fresh AS MATERIALIZED (
        SELECT t.n, nextval('instances_id_seq') AS id,
            now() + row_number() OVER (ORDER BY p_received_at[t.n]) * interval '1 microsecond' AS due
        FROM unnest(v_new) AS t (n)
    ), kept AS (
        INSERT INTO instances (id, sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid,
                transfer_syntax_uid, sha256, data_set_size, calling_ae_title, called_ae_title, remote_address,
                kind, file_name, reception_id, received_at) OVERRIDING SYSTEM VALUE
            SELECT f.id, p_sop_instance_uid[f.n], p_study_instance_uid[f.n], p_series_instance_uid[f.n],
                p_sop_class_uid[f.n], p_transfer_syntax_uid[f.n], p_sha256[f.n], p_data_set_size[f.n],
                p_calling_ae_title[f.n], p_called_ae_title[f.n], p_remote_address[f.n], p_kind[f.n],
                p_file_name[f.n], p_reception_id[f.n], least(p_received_at[f.n], now())
            FROM fresh f
    ), owed AS MATERIALIZED (
        SELECT nextval('deliveries_id_seq') AS id, f.id AS instance_id, r.route, r.target, r.actor_name,
            p_priority[f.n] AS priority, f.due
        FROM fresh f CROSS JOIN LATERAL unnest(
            string_to_array(p_routes[f.n], ',')::route[], string_to_array(p_targets[f.n], E'\\'),
            string_to_array(p_actor_names[f.n], ',')) AS r (route, target, actor_name)
    ), debts AS (
        INSERT INTO deliveries (id, instance_id, route, target, priority, message_id) OVERRIDING SYSTEM VALUE
            SELECT o.id, o.instance_id, o.route, o.target, o.priority, dramatiq.send(
                queue_of(o.route, o.target), o.actor_name, jsonb_build_array(o.id), o.priority, o.due, o.id)
            FROM owed o
    )
    SELECT f.n, f.id, 'stored', p_file_name[f.n], 'incoming'::instance_place, p_kind[f.n] FROM fresh f;
    FOR n IN 1 .. cardinality(p_sop_instance_uid) LOOP
        CONTINUE WHEN n = ANY (v_new);
        RETURN QUERY SELECT n, r.instance_id, r.verdict, r.kept_file_name, r.kept_place, r.kept_kind
            FROM register_reception(
                p_sop_instance_uid[n], p_study_instance_uid[n], p_series_instance_uid[n], p_sop_class_uid[n],
                p_transfer_syntax_uid[n], p_sha256[n], p_data_set_size[n], p_calling_ae_title[n],
                p_called_ae_title[n], p_remote_address[n], p_kind[n], p_file_name[n],
                string_to_array(p_routes[n], ',')::route[], string_to_array(p_targets[n], E'\\'),
                string_to_array(p_actor_names[n], ','), p_priority[n], p_origin[n], p_result_routes, p_result_targets,
                p_result_actor_names, p_window, p_reception_id[n], p_received_at[n]) AS r;
    END LOOP;
END $$;
