-- Units: the series or studies that an application gets whole.

-- The applications whose unit is not an instance, from the configuration.
CREATE TABLE application_units (
    application text NOT NULL CONSTRAINT application_units_pkey PRIMARY KEY,
    unit text NOT NULL CONSTRAINT application_units_unit CHECK (unit IN ('series', 'study')),
    complete_after interval NOT NULL,
    max_wait interval NOT NULL,
    late text NOT NULL CONSTRAINT application_units_late CHECK (late IN ('new_only', 'resend_all', 'ignore')));

CREATE TYPE unit_state AS ENUM (
    'collecting', 'complete', 'sending', 'sent', 'answered', 'timed_out', 'superseded', 'dead', 'cancelled');

CREATE TABLE units (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT units_pkey PRIMARY KEY,
    application text NOT NULL,
    unit text NOT NULL,
    study_instance_uid text NOT NULL,
    uid text NOT NULL,
    generation integer NOT NULL,
    state unit_state NOT NULL DEFAULT 'collecting',
    priority smallint NOT NULL,
    first_at timestamptz NOT NULL DEFAULT now(),
    last_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    completed_by text,
    worker text,
    claim_id uuid,
    claimed_by bigint,
    lease_until timestamptz,
    next_attempt_at timestamptz,
    message_id uuid,
    failures integer NOT NULL DEFAULT 0,
    redispatches integer NOT NULL DEFAULT 0,
    sent_at timestamptz,
    settled_at timestamptz,
    result_instance_id bigint,
    last_error text,
    CONSTRAINT units_one_per_generation UNIQUE (application, study_instance_uid, uid, generation),
    CONSTRAINT units_sending_is_claimed CHECK ((state = 'sending') = (claim_id IS NOT NULL)));
COMMENT ON COLUMN units.uid IS 'the Series Instance UID, or the Study Instance UID';
COMMENT ON COLUMN units.last_at IS 'when the last instance of it, or a repeat, was registered';
COMMENT ON COLUMN units.completed_by IS 'quiet, max_wait, configuration, or the operator';
COMMENT ON COLUMN units.next_attempt_at IS 'when its message is due; while sent, the deadline of its result';
COMMENT ON COLUMN units.sent_at IS 'when it was sent whole for the last time';
CREATE INDEX units_unsettled ON units (application, state, next_attempt_at)
    WHERE state IN ('collecting', 'complete', 'sending', 'sent');
CREATE INDEX units_by_study ON units (study_instance_uid);

CREATE TABLE unit_dispatches (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT unit_dispatches_pkey PRIMARY KEY,
    unit_id bigint NOT NULL CONSTRAINT unit_dispatches_unit_id_fkey REFERENCES units ON DELETE CASCADE,
    worker text NOT NULL,
    claim_id uuid NOT NULL CONSTRAINT unit_dispatches_one_per_claim UNIQUE,
    began_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    outcome text,
    instances integer,
    error text,
    timed_out_at timestamptz,
    result_at timestamptz,
    result_instance_id bigint);
COMMENT ON COLUMN unit_dispatches.outcome IS 'sent, an outcome of gateway/domain/outcome.py, lost or fenced; NULL while it is sent';
COMMENT ON COLUMN unit_dispatches.result_at IS 'when its last result was received';
CREATE INDEX unit_dispatches_by_unit ON unit_dispatches (unit_id);

ALTER TABLE deliveries ADD COLUMN unit_id bigint;
COMMENT ON COLUMN deliveries.unit_id IS 'the unit with which it is sent';
CREATE INDEX deliveries_by_unit ON deliveries (unit_id) WHERE unit_id IS NOT NULL;
DROP INDEX deliveries_unsettled;
CREATE INDEX deliveries_unsettled ON deliveries (route, target, state, next_attempt_at)
    WHERE state IN ('collecting', 'pending', 'in_flight', 'dead');

DROP TRIGGER deliveries_transition ON deliveries;
CREATE TRIGGER deliveries_transition BEFORE UPDATE OF state ON deliveries FOR EACH ROW
WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
    ('pending', 'in_flight'), ('pending', 'delivered'), ('pending', 'dead'), ('pending', 'cancelled'),
    ('pending', 'collecting'), ('collecting', 'delivered'), ('collecting', 'dead'), ('collecting', 'cancelled'),
    ('in_flight', 'delivered'), ('in_flight', 'pending'), ('in_flight', 'dead'),
    ('dead', 'pending'), ('dead', 'cancelled'), ('cancelled', 'pending'), ('delivered', 'pending')))
EXECUTE FUNCTION refuse_transition();

-- Return the folder of an instance's file, which shows the state of its deliveries.
--   failed     one is dead, or all were cancelled
--   queued     one is not settled, and had an attempt or an error
--   incoming   one is not settled, and none of those had an attempt or an error
--   sent       all are settled, and one was delivered; or it is owed to no target
CREATE OR REPLACE FUNCTION place_of(p_instance_id bigint) RETURNS instance_place LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN bool_or(state = 'dead') THEN 'failed'
        WHEN bool_or(state IN ('collecting', 'pending', 'in_flight')) THEN
            CASE WHEN bool_or(state IN ('collecting', 'pending', 'in_flight') AND (attempts > 0 OR last_error IS NOT NULL))
                 THEN 'queued' ELSE 'incoming' END
        WHEN bool_or(state = 'delivered') OR count(*) = 0 THEN 'sent'
        ELSE 'failed' END::instance_place
    FROM deliveries WHERE instance_id = p_instance_id;
$$;

-- Write the message that looks at a unit at that time; return its id.
CREATE OR REPLACE FUNCTION wake_unit_at(u units, p_due timestamptz) RETURNS uuid LANGUAGE sql AS $$
    SELECT dramatiq.send(queue_of('workers', u.application), 'forward_unit', jsonb_build_array(u.id), u.priority, p_due)
$$;

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
                settled_at = now(), settled_by = 'late: ignore', last_error = 'late: its ' || a.unit || ' was sent before'
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

-- New deliveries to an application whose unit is a series or a study wait for the rest of it. The order of the units is
-- that in which two registrations lock them.
CREATE OR REPLACE FUNCTION collect_deliveries() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    r record;
BEGIN
    IF NOT EXISTS (SELECT FROM application_units) THEN
        RETURN NULL;
    END IF;
    FOR r IN
        SELECT a.application, i.study_instance_uid AS study,
            CASE a.unit WHEN 'study' THEN i.study_instance_uid ELSE i.series_instance_uid END AS uid,
            array_agg(f.id ORDER BY f.id) AS ids
        FROM fresh f
        JOIN application_units a ON a.application = f.target
        JOIN instances i ON i.id = f.instance_id
        WHERE f.route = 'workers' AND f.state = 'pending'
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    LOOP
        PERFORM join_unit(r.application, r.study, r.uid, r.ids, false);
    END LOOP;
    RETURN NULL;
END $$;

-- A delivery of a unit that is owed again (repeat, retry or resend) joins the unit that is collected now, or begins a new
-- generation.
CREATE OR REPLACE FUNCTION collect_again() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    u units;
BEGIN
    SELECT * INTO u FROM units x WHERE x.id = NEW.unit_id;
    IF FOUND AND EXISTS (SELECT FROM application_units a WHERE a.application = u.application) THEN
        PERFORM join_unit(u.application, u.study_instance_uid, u.uid, ARRAY[NEW.id], true);
    END IF;
    RETURN NULL;
END $$;

-- A repeat of an instance is a sign that its unit is still arriving.
CREATE OR REPLACE FUNCTION prolong_units() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE units u SET last_at = now() FROM deliveries d
        WHERE d.instance_id = NEW.id AND d.state = 'collecting' AND u.id = d.unit_id AND u.state = 'collecting';
    RETURN NULL;
END $$;

-- Return the deliveries that are sent as one unit: its own, and with `resend_all` those that earlier generations delivered.
CREATE OR REPLACE FUNCTION unit_members(u units) RETURNS SETOF deliveries LANGUAGE sql STABLE AS $$
    SELECT d.* FROM deliveries d WHERE d.unit_id = u.id AND d.state IN ('collecting', 'delivered')
    UNION ALL
    SELECT d.* FROM application_units a
    JOIN units e ON e.application = u.application AND e.study_instance_uid = u.study_instance_uid AND e.uid = u.uid
        AND e.generation < u.generation
    JOIN deliveries d ON d.unit_id = e.id AND d.state = 'delivered'
    WHERE a.application = u.application AND a.late = 'resend_all'
$$;

-- collecting | complete -> sending, for exactly one caller; sending -> sending, if the process that sends it is gone or its
-- lease is over. The unit is then sent whole, from its first instance.
--
-- It is complete after its quiet time, unless a file received within that time is unregistered (`p_unregistered_since`: the
-- oldest one); at its longest wait; or because an operator said so.
--   claimed     the caller sends the unit to `worker`
--   collecting  it is not complete: a message for the next look is enqueued
--   no_worker   no worker is free, or an earlier generation is being sent: complete, due again after `p_wait`
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
                   AND e.generation < u.generation AND e.state = 'sending') THEN
        v_error := 'an earlier generation is being sent';
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
                AND x.generation < u.generation AND x.state IN ('sent', 'complete', 'timed_out');
    END IF;
    UPDATE destinations x SET last_turn = nextval('worker_turn') WHERE x.ae_title = claim_unit.worker;
    claim_id := gen_random_uuid();
    UPDATE units x SET state = 'sending', claim_id = claim_unit.claim_id, claimed_by = p_consumer,
            lease_until = now() + p_lease, worker = claim_unit.worker, next_attempt_at = NULL, message_id = NULL
        WHERE x.id = u.id;
    INSERT INTO unit_dispatches (unit_id, worker, claim_id) VALUES (u.id, claim_unit.worker, claim_unit.claim_id);
    verdict := 'claimed';
END $$;

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

-- Make the unit of an application due now that waits longest for a free worker.
CREATE OR REPLACE FUNCTION wake_next_unit(p_application text) RETURNS void LANGUAGE sql AS $$
    WITH next AS (
        SELECT u.id, u.message_id FROM units u
        WHERE u.application = p_application AND u.state = 'complete' AND u.next_attempt_at > now()
        ORDER BY u.priority, u.completed_at LIMIT 1 FOR UPDATE SKIP LOCKED
    ), due AS (
        UPDATE dramatiq.queue q SET due = now() FROM next WHERE q.message_id = next.message_id AND q.state = 'queued'
    )
    UPDATE units u SET next_attempt_at = now() FROM next WHERE u.id = next.id
$$;

-- Mark the units as answered that a result of `p_workers` was derived from, by its source instances; without sources, the only
-- unit of these studies whose result they owe. Return how many were answered, whether one had timed out before, and whether the result is of an
-- older generation: such a result is linked and forwarded, and satisfies nothing.
--
-- A result is of the newest generation that its worker got, unless it names only instances of older ones while the worker
-- still owed the result of one of those. While a unit is being sent, its result is only noted (settle_unit).
CREATE OR REPLACE FUNCTION answer_units(
    p_result_id bigint, p_source_ids bigint[], p_studies text[], p_workers text[],
    OUT answered integer, OUT late boolean, OUT is_older boolean
) LANGUAGE plpgsql AS $$
DECLARE
    k record;
    u units;
    x unit_dispatches;
    v_received_at timestamptz;
    v_first bigint;
BEGIN
    answered := 0;
    late := false;
    is_older := false;
    SELECT coalesce(i.repeated_at, i.received_at) INTO v_received_at FROM instances i WHERE i.id = p_result_id;
    FOR k IN
        SELECT n.application, n.study_instance_uid, n.uid, max(n.generation) AS generation
        FROM deliveries d JOIN units n ON n.id = d.unit_id
        WHERE d.instance_id = ANY (p_source_ids) AND d.unit_id IS NOT NULL
        GROUP BY 1, 2, 3
        UNION ALL
        SELECT n.application, n.study_instance_uid, n.uid, n.generation FROM (
            SELECT *, count(*) OVER () AS owed FROM units o
            WHERE o.study_instance_uid = ANY (p_studies) AND o.state IN ('sending', 'sent') AND o.worker = ANY (p_workers)) AS n
        WHERE n.owed = 1
        ORDER BY 1, 2, 3
    LOOP
        SELECT y.* INTO u FROM units y
            WHERE y.application = k.application AND y.study_instance_uid = k.study_instance_uid AND y.uid = k.uid
                AND (y.generation = k.generation OR EXISTS (
                    SELECT FROM application_units a WHERE a.application = y.application AND a.late = 'resend_all'))
                AND EXISTS (SELECT FROM unit_dispatches p WHERE p.unit_id = y.id AND p.worker = ANY (p_workers))
            ORDER BY y.generation DESC LIMIT 1 FOR UPDATE;
        CONTINUE WHEN NOT FOUND;
        IF u.generation > k.generation THEN
            SELECT p.id INTO v_first FROM units o JOIN unit_dispatches p ON p.unit_id = o.id
                WHERE o.application = u.application AND o.study_instance_uid = u.study_instance_uid AND o.uid = u.uid
                    AND o.generation < u.generation AND o.state = 'superseded'
                    AND p.worker = ANY (p_workers) AND p.outcome = 'sent'
                LIMIT 1;
            IF FOUND THEN
                is_older := true;
                CONTINUE;
            END IF;
        END IF;
        UPDATE unit_dispatches p SET result_at = greatest(p.result_at, v_received_at), result_instance_id = p_result_id
            WHERE p.id = (SELECT max(q.id) FROM unit_dispatches q WHERE q.unit_id = u.id AND q.worker = ANY (p_workers));
        IF u.state = 'superseded' THEN
            is_older := true;
        ELSIF u.state IN ('sent', 'timed_out') OR (u.state = 'complete' AND u.sent_at IS NOT NULL) THEN
            DELETE FROM dramatiq.queue q WHERE q.message_id = u.message_id AND q.state = 'queued';
            UPDATE units y SET state = 'answered', settled_at = now(), result_instance_id = p_result_id, next_attempt_at = NULL,
                    message_id = NULL, last_error = NULL
                WHERE y.id = u.id;
            answered := answered + 1;
            late := late OR u.state <> 'sent' OR u.redispatches > 0 AND u.worker <> ALL (p_workers);
            PERFORM wake_next_unit(u.application);
        ELSIF u.state IN ('sending', 'answered') THEN
            answered := answered + 1;
        END IF;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION refuse_unit_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'unit % cannot go from % to %', OLD.id, OLD.state, NEW.state
        USING ERRCODE = 'check_violation', CONSTRAINT = 'units_transition';
END $$;

CREATE TRIGGER deliveries_collect AFTER INSERT ON deliveries REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION collect_deliveries();
CREATE TRIGGER deliveries_collect_again AFTER UPDATE OF state ON deliveries FOR EACH ROW
    WHEN (NEW.unit_id IS NOT NULL AND NEW.state = 'pending' AND OLD.state <> 'pending')
    EXECUTE FUNCTION collect_again();
CREATE TRIGGER instances_prolong_units AFTER UPDATE OF repeated_at ON instances FOR EACH ROW
    WHEN (OLD.repeated_at IS DISTINCT FROM NEW.repeated_at) EXECUTE FUNCTION prolong_units();
CREATE TRIGGER units_transition BEFORE UPDATE OF state ON units FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
        ('collecting', 'complete'),
        ('complete', 'sending'), ('complete', 'answered'), ('complete', 'superseded'), ('complete', 'cancelled'),
        ('sending', 'sent'), ('sending', 'answered'), ('sending', 'complete'), ('sending', 'dead'), ('sending', 'cancelled'),
        ('sent', 'answered'), ('sent', 'complete'), ('sent', 'timed_out'), ('sent', 'superseded'),
        ('timed_out', 'answered'), ('timed_out', 'superseded')))
    EXECUTE FUNCTION refuse_unit_transition();
