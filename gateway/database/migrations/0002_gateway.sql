-- The tables of the gateway: instances, their deliveries, and the attempts and results of these.
-- All times are those of the database's clock. The enums of the states equal Python's (contract test).

CREATE TYPE instance_kind AS ENUM ('original', 'result');
CREATE TYPE instance_place AS ENUM ('incoming', 'queued', 'sent', 'failed');
CREATE TYPE correlation AS ENUM ('references', 'study', 'ambiguous', 'unmatched');
CREATE TYPE route AS ENUM ('pacs', 'workers');
CREATE TYPE delivery_state AS ENUM ('pending', 'in_flight', 'delivered', 'dead', 'cancelled');
CREATE TYPE expectation_state AS ENUM ('owed', 'arrived', 'late', 'timed_out');
CREATE TYPE breaker_state AS ENUM ('closed', 'open');

-- One row per reception kept. No attribute of a patient stands here.
CREATE TABLE instances (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sop_instance_uid text NOT NULL,
    study_instance_uid text NOT NULL,
    series_instance_uid text NOT NULL,
    sop_class_uid text NOT NULL,
    transfer_syntax_uid text NOT NULL,
    sha256 bytea NOT NULL,
    data_set_size bigint NOT NULL,
    calling_ae_title text NOT NULL,
    called_ae_title text NOT NULL,
    remote_address text NOT NULL,
    kind instance_kind NOT NULL,
    conflict boolean NOT NULL DEFAULT false,
    correlation correlation,
    late boolean NOT NULL DEFAULT false,
    place instance_place NOT NULL DEFAULT 'incoming',
    file_name text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    repeats integer NOT NULL DEFAULT 0,
    repeated_at timestamptz,
    CONSTRAINT instances_sop_instance_uid_is_a_uid
        CHECK (length(sop_instance_uid) <= 64 AND sop_instance_uid ~ '^[0-9]+([.][0-9]+)*$'),
    CONSTRAINT instances_study_instance_uid_is_a_uid
        CHECK (length(study_instance_uid) <= 64 AND study_instance_uid ~ '^[0-9]+([.][0-9]+)*$'),
    CONSTRAINT instances_sha256_is_a_digest CHECK (octet_length(sha256) = 32),
    CONSTRAINT instances_one_per_content UNIQUE (sop_instance_uid, sha256),
    -- a name means one file, whatever place it is moved to
    CONSTRAINT instances_one_per_file UNIQUE (study_instance_uid, file_name)
);
CREATE INDEX instances_by_series ON instances (series_instance_uid);
CREATE INDEX instances_by_time ON instances (received_at);
-- few, and counted by `mini-pacs status`
CREATE INDEX instances_flagged ON instances (correlation) WHERE late OR correlation IN ('ambiguous', 'unmatched');

-- One instance owed to one route. The route is also the queue of its messages.
CREATE TABLE deliveries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance_id bigint NOT NULL REFERENCES instances ON DELETE CASCADE,
    route route NOT NULL,
    state delivery_state NOT NULL DEFAULT 'pending',
    priority smallint NOT NULL,
    owed_since timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    refusals integer NOT NULL DEFAULT 0, -- those of the attempts that max_retries bounds
    redispatches integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz DEFAULT now(),
    claim_id uuid,
    claimed_by bigint,
    lease_until timestamptz,
    message_id uuid,
    destination text,
    last_status integer,
    last_error text,
    settled_at timestamptz,
    settled_by text,
    CONSTRAINT deliveries_one_per_route UNIQUE (instance_id, route),
    CONSTRAINT deliveries_in_flight_is_claimed
        CHECK ((state = 'in_flight') = (claim_id IS NOT NULL AND lease_until IS NOT NULL)),
    CONSTRAINT deliveries_pending_has_a_time CHECK (state <> 'pending' OR next_attempt_at IS NOT NULL)
) WITH (fillfactor = 70);
CREATE INDEX deliveries_unsettled ON deliveries (route, state, next_attempt_at)
    WHERE state IN ('pending', 'in_flight', 'dead');

-- The guard of gateway/domain/delivery.py TRANSITIONS: any other change of state is an error.
CREATE FUNCTION refuse_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'delivery % cannot go from % to %', OLD.id, OLD.state, NEW.state
        USING ERRCODE = 'check_violation', CONSTRAINT = 'deliveries_transition';
END $$;
CREATE TRIGGER deliveries_transition BEFORE UPDATE OF state ON deliveries FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
        ('pending', 'in_flight'), ('pending', 'delivered'), ('pending', 'dead'), ('pending', 'cancelled'),
        ('in_flight', 'delivered'), ('in_flight', 'pending'), ('in_flight', 'dead'),
        ('dead', 'pending'), ('dead', 'cancelled'), ('cancelled', 'pending'), ('delivered', 'pending')))
    EXECUTE FUNCTION refuse_transition();

-- Append-only: one line per try. With the timestamps of the other tables this is the timeline.
CREATE TABLE attempts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id bigint NOT NULL REFERENCES deliveries ON DELETE CASCADE,
    claim_id uuid NOT NULL,
    ended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    duration_ms double precision NOT NULL,
    destination text NOT NULL,
    outcome text NOT NULL,
    status integer,
    error text,
    fenced boolean NOT NULL DEFAULT false
);
CREATE INDEX attempts_by_delivery ON attempts (delivery_id);

-- Which worker owes a result for which instance, until when.
CREATE TABLE expected_results (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id bigint NOT NULL REFERENCES deliveries ON DELETE CASCADE,
    instance_id bigint NOT NULL REFERENCES instances ON DELETE CASCADE,
    worker text NOT NULL,
    claim_id uuid NOT NULL,
    state expectation_state NOT NULL DEFAULT 'owed',
    asked_at timestamptz NOT NULL DEFAULT now(),
    due_at timestamptz NOT NULL,
    arrived_at timestamptz,
    result_instance_id bigint REFERENCES instances ON DELETE SET NULL,
    message_id uuid
);
CREATE INDEX expected_results_by_delivery ON expected_results (delivery_id);
CREATE INDEX expected_results_by_instance ON expected_results (instance_id);
CREATE INDEX expected_results_by_result ON expected_results (result_instance_id);
CREATE INDEX expected_results_owed ON expected_results (worker, due_at) WHERE state = 'owed';
CREATE INDEX expected_results_timed_out ON expected_results (delivery_id) WHERE state = 'timed_out';

-- A result and the one or many instances it was derived from.
CREATE TABLE result_sources (
    result_instance_id bigint NOT NULL REFERENCES instances ON DELETE CASCADE,
    source_instance_id bigint NOT NULL REFERENCES instances ON DELETE CASCADE,
    worker text NOT NULL,
    PRIMARY KEY (result_instance_id, source_instance_id)
);
CREATE INDEX result_sources_by_source ON result_sources (source_instance_id);

-- What is known of each peer. `configured` says whether config.yaml still names it.
CREATE SEQUENCE worker_turn;
CREATE TABLE destinations (
    ae_title text PRIMARY KEY,
    route route NOT NULL,
    configured boolean NOT NULL DEFAULT true,
    max_outstanding integer NOT NULL,
    breaker breaker_state NOT NULL DEFAULT 'closed',
    probe_by_store boolean NOT NULL DEFAULT false,
    paused boolean NOT NULL DEFAULT false,
    paused_by text,
    failures_in_row integer NOT NULL DEFAULT 0,
    failed_instance_ids bigint[] NOT NULL DEFAULT '{}',
    reason text,
    changed_at timestamptz NOT NULL DEFAULT now(),
    next_probe_at timestamptz,
    last_turn bigint NOT NULL DEFAULT 0
);

CREATE TABLE faults (
    name text PRIMARY KEY,
    value double precision,
    stage text,
    until timestamptz,
    injected_at timestamptz NOT NULL DEFAULT now(),
    injected_by text NOT NULL
);

-- When each verb of the sweep last ran, and what it found.
CREATE TABLE sweeps (
    verb text PRIMARY KEY,
    ran_at timestamptz NOT NULL DEFAULT now(),
    counts jsonb NOT NULL
);

-- Numbers of the sender's studies (`--seq-from-db`).
CREATE SEQUENCE study_numbers;

-- The reception of one instance: the row, every delivery it owes, and the message of each, in the
-- caller's transaction (G1). Sent again, it owes nothing new while its delivery is under way or was
-- delivered within the window; later, or where it is dead or cancelled, it is owed again (G4).
--   stored      a new row
--   conflict    a new row beside another version of the same SOP Instance UID
--   duplicate   nothing new is owed; the caller's file is superfluous
--   owed_again  the kept file is owed again; the caller's file is superfluous
--   name_taken  nothing was done: that file name means another version; call again with another name
CREATE FUNCTION receive_instance(
    p_sop_instance_uid text, p_study_instance_uid text, p_series_instance_uid text, p_sop_class_uid text,
    p_transfer_syntax_uid text, p_sha256 bytea, p_data_set_size bigint, p_calling_ae_title text,
    p_called_ae_title text, p_remote_address text, p_kind instance_kind, p_file_name text,
    p_routes route[], p_actor_names text[], p_priority integer, p_window interval,
    OUT instance_id bigint, OUT verdict text, OUT kept_file_name text, OUT kept_place instance_place
) LANGUAGE plpgsql AS $$
DECLARE
    is_new boolean;
    is_conflict boolean;
    owed_again boolean := false;
    v_delivery_id bigint;
BEGIN
    -- Versions of one SOP Instance UID are received one after the other, so that the second sees the first.
    PERFORM pg_advisory_xact_lock(hashtextextended(p_sop_instance_uid, 1));
    -- NO KEY: who inserts a row that refers to the instance (a claim, holding a delivery) must not wait for us.
    SELECT i.id, i.file_name, i.place INTO instance_id, kept_file_name, kept_place
        FROM instances i WHERE i.sop_instance_uid = p_sop_instance_uid AND i.sha256 = p_sha256
        FOR NO KEY UPDATE;
    is_new := NOT FOUND;
    IF is_new THEN
        SELECT count(*) > 0, count(*) FILTER (WHERE i.file_name = p_file_name) > 0 INTO is_conflict, owed_again
            FROM instances i WHERE i.sop_instance_uid = p_sop_instance_uid;
        IF owed_again THEN
            verdict := 'name_taken';
            RETURN;
        END IF;
        INSERT INTO instances (sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid,
                transfer_syntax_uid, sha256, data_set_size, calling_ae_title, called_ae_title, remote_address,
                kind, conflict, file_name)
            VALUES (p_sop_instance_uid, p_study_instance_uid, p_series_instance_uid, p_sop_class_uid,
                p_transfer_syntax_uid, p_sha256, p_data_set_size, p_calling_ae_title, p_called_ae_title,
                p_remote_address, p_kind, is_conflict, p_file_name)
            RETURNING id, file_name, place INTO instance_id, kept_file_name, kept_place;
        -- The way of nearly all: the ids are drawn first, so that each row is written once, in one statement.
        INSERT INTO deliveries (id, instance_id, route, priority, message_id) OVERRIDING SYSTEM VALUE
            SELECT owed.id, receive_instance.instance_id, owed.route, p_priority, dramatiq.send(
                owed.route::text, owed.actor_name, jsonb_build_array(owed.id), p_priority, now(), owed.id)
            FROM (SELECT nextval('deliveries_id_seq') AS id, r.route, r.actor_name
                  FROM unnest(p_routes, p_actor_names) AS r (route, actor_name)) AS owed;
        verdict := CASE WHEN is_conflict THEN 'conflict' ELSE 'stored' END;
        RETURN;
    END IF;
    UPDATE instances i SET repeats = i.repeats + 1, repeated_at = now() WHERE i.id = instance_id;
    owed_again := false;
    FOR n IN 1 .. cardinality(p_routes) LOOP
        INSERT INTO deliveries AS d (instance_id, route, priority)
            VALUES (instance_id, p_routes[n], p_priority)
            ON CONFLICT ON CONSTRAINT deliveries_one_per_route DO UPDATE
                SET state = 'pending', priority = p_priority, owed_since = now(), attempts = 0, refusals = 0, redispatches = 0,
                    next_attempt_at = now(), settled_at = NULL, settled_by = NULL, last_status = NULL,
                    last_error = NULL
                WHERE d.state IN ('dead', 'cancelled')
                    OR (d.state = 'delivered' AND d.settled_at < now() - p_window)
            RETURNING d.id INTO v_delivery_id;
        IF FOUND THEN
            owed_again := true;
            UPDATE deliveries d SET message_id = dramatiq.send(
                    p_routes[n]::text, p_actor_names[n], jsonb_build_array(v_delivery_id), p_priority, now(),
                    v_delivery_id)
                WHERE d.id = v_delivery_id;
        END IF;
    END LOOP;
    verdict := CASE WHEN owed_again THEN 'owed_again' ELSE 'duplicate' END;
END $$;

-- The folder that tells an SRE the same as the rows: failed while one is dead, incoming or queued while
-- something is owed, sent when all is settled and something was delivered, failed when all was cancelled.
CREATE FUNCTION place_of(p_instance_id bigint) RETURNS instance_place LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN bool_or(state = 'dead') THEN 'failed'
        WHEN bool_or(state IN ('pending', 'in_flight')) THEN
            CASE WHEN bool_or(state IN ('pending', 'in_flight') AND (attempts > 0 OR last_error IS NOT NULL))
                 THEN 'queued' ELSE 'incoming' END
        WHEN bool_or(state = 'delivered') THEN 'sent'
        ELSE 'failed' END::instance_place
    FROM deliveries WHERE instance_id = p_instance_id;
$$;

-- The outcome of one attempt. It counts only for who still holds the claim; a fenced one is only noted.
-- A delivery that stays pending gets its next wake-up here, in the same transaction.
CREATE FUNCTION settle_delivery(
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
BEGIN
    -- The instance before the delivery, as a reception does: one order of locks, and two deliveries of one
    -- instance that are settled at once see each other.
    SELECT i.id, i.place INTO v_instance_id, place_before FROM instances i
        WHERE i.id = (SELECT d.instance_id FROM deliveries d WHERE d.id = p_delivery_id) FOR NO KEY UPDATE;
    UPDATE deliveries d SET
            state = p_state, attempts = d.attempts + p_counted::integer,
            refusals = d.refusals + p_refused::integer, claim_id = NULL, claimed_by = NULL,
            lease_until = NULL, priority = coalesce(p_priority, d.priority),
            next_attempt_at = CASE WHEN p_state = 'pending' THEN now() + p_wait END,
            destination = p_destination, last_status = p_status, last_error = p_error,
            settled_at = CASE WHEN p_state <> 'pending' THEN now() END, message_id = NULL
        WHERE d.id = p_delivery_id AND d.state = 'in_flight' AND d.claim_id = p_claim_id
        RETURNING d.route INTO v_route;
    settled := FOUND;
    IF v_instance_id IS NOT NULL THEN
        INSERT INTO attempts (delivery_id, claim_id, duration_ms, destination, outcome, status, error, fenced)
            VALUES (p_delivery_id, p_claim_id, p_duration_ms, p_destination, p_outcome, p_status, p_error,
                    NOT settled);
    END IF;
    IF NOT settled THEN
        RETURN;
    END IF;
    IF p_state = 'pending' THEN
        UPDATE deliveries d SET message_id = dramatiq.send(
                v_route::text, p_actor_name, jsonb_build_array(d.id), d.priority, d.next_attempt_at, d.id)
            WHERE d.id = p_delivery_id;
    END IF;
    IF v_route = 'workers' THEN
        IF p_state = 'delivered' THEN
            -- the deadline counts from when the worker had it
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

-- pending -> in_flight for a worker: takes the delivery, chooses the worker whose turn it is among those
-- that are up and owe less than they may, notes the result it will owe and the message of that deadline;
-- all before anything is sent.
--   claimed     the delivery is the caller's, `worker` is who gets it
--   answered    the result is here already: nothing to send
--   no_worker   all are away, paused or busy: still pending, with a wake-up in `p_wait`
--   nothing     settled, or somebody else's
CREATE FUNCTION claim_for_worker(
    p_delivery_id bigint, p_consumer bigint, p_lease interval, p_result_wait interval, p_by_study boolean,
    p_wait interval, p_actor_name text, p_expire_actor_name text, p_expire_queue text,
    OUT verdict text, OUT claim_id uuid, OUT worker text
) LANGUAGE plpgsql AS $$
DECLARE
    d deliveries;
    v_study text;
    v_previous text;
    v_bound text;
BEGIN
    -- One turn at a time, over all processes: counts and turns below are exact.
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
        -- the send that broke off, or whose actor died, had arrived after all
        UPDATE deliveries x SET state = 'delivered', claim_id = NULL, claimed_by = NULL, lease_until = NULL,
            next_attempt_at = NULL, settled_at = now(), message_id = NULL WHERE x.id = d.id;
        verdict := 'answered';
        RETURN;
    END IF;
    IF d.state = 'in_flight' THEN
        -- who held it is gone: the same worker again, whose repeat would be the same bytes
        DELETE FROM expected_results e WHERE e.claim_id = d.claim_id AND e.state = 'owed' RETURNING e.worker
            INTO v_previous;
    END IF;
    SELECT i.study_instance_uid INTO v_study FROM instances i WHERE i.id = d.instance_id;
    IF p_by_study THEN
        -- The worker that has the rest of the study, while it is up and did not fail on this very instance;
        -- where it is busy, the study waits for it.
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
        UPDATE deliveries x SET state = 'pending', claim_id = NULL, claimed_by = NULL, lease_until = NULL,
                next_attempt_at = now() + p_wait, last_error = 'no worker is free',
                message_id = dramatiq.send('workers', p_actor_name, jsonb_build_array(x.id), x.priority,
                                           now() + p_wait, x.id)
            WHERE x.id = d.id;
        verdict := 'no_worker';
        RETURN;
    END IF;
    UPDATE destinations x SET last_turn = nextval('worker_turn') WHERE x.ae_title = worker;
    claim_id := gen_random_uuid();
    UPDATE deliveries x SET state = 'in_flight', claim_id = claim_for_worker.claim_id, claimed_by = p_consumer,
            lease_until = now() + p_lease, destination = worker, next_attempt_at = NULL
        WHERE x.id = d.id;
    INSERT INTO expected_results (delivery_id, instance_id, worker, claim_id, due_at)
        VALUES (d.id, d.instance_id, claim_for_worker.worker, claim_for_worker.claim_id, now() + p_result_wait);
    UPDATE expected_results e SET message_id = dramatiq.send(
            p_expire_queue, p_expire_actor_name, jsonb_build_array(e.id), 4, e.due_at)
        WHERE e.claim_id = claim_for_worker.claim_id;
    verdict := 'claimed';
END $$;

-- A deadline has passed: the instance goes to another worker, `p_max_redispatch` times, then the result is
-- marked timed out for good.
--   nothing      it has arrived, or is not due yet
--   postponed    the send is still under way, or the deadline was moved: there is a message for the new one
--   redispatched pending again, with a message
--   timed_out    no more workers are asked
CREATE FUNCTION expire_expectation(
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
    IF d.state = 'delivered' AND d.redispatches < p_max_redispatch THEN
        UPDATE deliveries x SET state = 'pending', redispatches = x.redispatches + 1, attempts = 0, refusals = 0,
                next_attempt_at = now(), settled_at = NULL, last_error = e.worker || ' did not answer in time',
                message_id = dramatiq.send('workers', p_actor_name, jsonb_build_array(x.id), x.priority, now(), x.id)
            WHERE x.id = d.id;
        verdict := 'redispatched';
    ELSE
        verdict := 'timed_out';
    END IF;
END $$;

-- How many messages of a queue may be claimed now: none while its PACS is away or paused, and for the workers
-- as many as those that are up may still owe. A closed route costs no claims and no churn.
CREATE OR REPLACE FUNCTION dramatiq.room(queue_name text, wanted integer) RETURNS integer
LANGUAGE sql STABLE AS $$
    SELECT CASE room.queue_name
        WHEN 'pacs' THEN CASE WHEN EXISTS (
            SELECT FROM public.destinations x
            WHERE x.route = 'pacs' AND x.configured AND (x.paused OR x.breaker = 'open')) THEN 0 ELSE wanted END
        WHEN 'workers' THEN least(wanted, (
            SELECT coalesce(sum(greatest(x.max_outstanding - owed.n, 0)), 0)::integer
            FROM public.destinations x
            CROSS JOIN LATERAL (SELECT count(*) AS n FROM public.expected_results e
                                WHERE e.worker = x.ae_title AND e.state = 'owed') AS owed
            WHERE x.route = 'workers' AND x.configured AND NOT x.paused AND x.breaker = 'closed'))
        ELSE wanted END;
$$;

-- A message that is dead takes its delivery along, with the reason; requeued by an operator, it brings it back.
-- Otherwise the delivery would look as if it were still on its way (G2), or be woken for ever.
CREATE FUNCTION follow_message() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_instance_id bigint;
BEGIN
    IF NEW.state = 'rejected' THEN
        UPDATE public.deliveries d SET state = 'dead', claim_id = NULL, claimed_by = NULL, lease_until = NULL,
                next_attempt_at = NULL, settled_at = now(), last_error = NEW.reason
            WHERE d.id = NEW.delivery_id AND d.state IN ('pending', 'in_flight')
            RETURNING d.instance_id INTO v_instance_id;
    ELSE
        UPDATE public.deliveries d SET state = 'pending', attempts = 0, refusals = 0, owed_since = now(), next_attempt_at = now(),
                settled_at = NULL, message_id = NEW.message_id
            WHERE d.id = NEW.delivery_id AND d.state = 'dead'
            RETURNING d.instance_id INTO v_instance_id;
    END IF;
    UPDATE public.instances i SET place = public.place_of(i.id) WHERE i.id = v_instance_id;
    RETURN NULL;
END $$;
CREATE TRIGGER queue_dead_with_its_delivery AFTER UPDATE OF state ON dramatiq.queue FOR EACH ROW
    WHEN (NEW.delivery_id IS NOT NULL AND OLD.state <> NEW.state
          AND (NEW.state = 'rejected' OR (OLD.state = 'rejected' AND NEW.state = 'queued')))
    EXECUTE FUNCTION follow_message();
