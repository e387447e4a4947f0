-- Return an id for a message that is due then. Ids sort by the time when the messages are due.
--
-- A claim writes a new version of a message's row, and with it a new entry in the index of the primary key. Ids that
-- start with the due time put messages that are claimed together side by side in this index. If ids started with the
-- time of creation, each claim of a night's retries would change a different page, and PostgreSQL would log that page
-- whole.
--
-- An id is a UUID version 7 (RFC 9562 §5.7), whose time may be altered (§6.1). No code reads the time from an id. Ids
-- from before migration 0003 start with the time of creation.
CREATE OR REPLACE FUNCTION dramatiq.new_id(due timestamptz) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    -- 48 bits of milliseconds since 1970; an infinite due time has none
    millis bigint := CASE WHEN isfinite(due)
        THEN least(greatest((extract(epoch FROM due) * 1000)::bigint, 0), 281474976710655)
        ELSE 281474976710655 END;
BEGIN
    RETURN encode(
        set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid()) PLACING substring(int8send(millis) FROM 3) FROM 1 FOR 6),
            52, 1), 53, 1),
        'hex')::uuid;
END $$;

-- Return a message as Dramatiq reads it (actors/queue/document.py).
CREATE OR REPLACE FUNCTION dramatiq.document(id uuid, queue_name text, actor_name text, args jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
BEGIN
    RETURN jsonb_build_object(
        'queue_name', queue_name,
        'actor_name', actor_name,
        'args', args,
        'kwargs', '{}'::jsonb,
        'options', '{}'::jsonb,
        'message_id', id,
        'message_timestamp', (extract(epoch FROM clock_timestamp()) * 1000)::bigint
    );
END $$;

-- Enqueue a message; return its id.
CREATE OR REPLACE FUNCTION dramatiq.send(
    queue_name text,
    actor_name text,
    args jsonb,
    priority integer DEFAULT 4,
    due timestamptz DEFAULT now(),
    delivery_id bigint DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    id uuid := dramatiq.new_id(due);
BEGIN
    INSERT INTO dramatiq.queue (message_id, queue_name, message, priority, due, delivery_id)
    VALUES (
        id,
        send.queue_name,
        dramatiq.document(id, send.queue_name, send.actor_name, send.args),
        send.priority,
        send.due,
        send.delivery_id
    );
    RETURN id;
END
$$;

-- Register a batch of receptions: one statement writes all instances that are new, with their deliveries and messages.
-- PostgreSQL reads the constraints of a table and the predicates of its indexes anew for every statement, which costs
-- more than a row. The plans are kept: PostgreSQL would make one for each batch, because it sees how long the arrays are.
-- They must use the indexes, also if they were made when the tables were small.
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
) LANGUAGE plpgsql SET plan_cache_mode TO force_generic_plan SET enable_seqscan TO off AS $$
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
            p_priority[f.n] AS priority, f.due,
            queue_of(r.route, r.target) AS queue_name, dramatiq.new_id(f.due) AS message_id
        FROM fresh f CROSS JOIN LATERAL unnest(
            string_to_array(p_routes[f.n], ',')::route[], string_to_array(p_targets[f.n], E'\\'),
            string_to_array(p_actor_names[f.n], ',')) AS r (route, target, actor_name)
    ), debts AS (
        INSERT INTO deliveries (id, instance_id, route, target, priority, message_id) OVERRIDING SYSTEM VALUE
            SELECT o.id, o.instance_id, o.route, o.target, o.priority, o.message_id FROM owed o
    ), messages AS (
        INSERT INTO dramatiq.queue (message_id, queue_name, message, priority, due, delivery_id)
            SELECT o.message_id, o.queue_name,
                dramatiq.document(o.message_id, o.queue_name, o.actor_name, jsonb_build_array(o.id)),
                o.priority, o.due, o.id
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

-- Return how many messages of a queue may be claimed now, at most `wanted`. For an archive: none while it is paused, its
-- breaker is open, it is not configured, or its rate is used up. For an application: as many results, of instances and of
-- units, as those of its workers that are up may still have outstanding. So a target that cannot take anything causes no
-- claims.
--
-- A unit that is being sent does not count: its process may be gone, and then its message must be claimed again.
--
-- In PL/pgSQL, because PostgreSQL would plan a function in SQL anew at each claim. The plans are kept: they must use
-- the indexes, also if they were made when the tables were small.
CREATE OR REPLACE FUNCTION dramatiq.room(queue_name text, wanted integer) RETURNS integer
LANGUAGE plpgsql STABLE SET enable_seqscan TO off AS $$
BEGIN
    IF room.queue_name = 'pacs' THEN
        RETURN CASE WHEN EXISTS (
            SELECT FROM public.destinations x
            WHERE x.route = 'pacs' AND x.configured
                AND (x.paused OR x.breaker = 'open'
                    OR x.next_slot_at BETWEEN now() + interval '1 second' AND now() + interval '5 minutes'))
            THEN 0 ELSE room.wanted END;
    ELSIF room.queue_name = 'workers' OR starts_with(room.queue_name, 'workers.') THEN
        RETURN least(room.wanted, (
            SELECT coalesce(sum(greatest(least(x.max_outstanding, a.max_outstanding) - owed.n - sent.n, 0)), 0)::integer
            FROM public.application_workers a
            JOIN public.destinations x ON x.ae_title = a.ae_title
            CROSS JOIN LATERAL (SELECT count(*) AS n FROM public.expected_results e
                                WHERE e.worker = x.ae_title AND e.state = 'owed') AS owed
            CROSS JOIN LATERAL (SELECT count(*) AS n FROM public.units u
                                WHERE u.worker = x.ae_title AND u.state = 'sent') AS sent
            WHERE a.application = CASE room.queue_name WHEN 'workers' THEN 'default'
                                  ELSE substr(room.queue_name, length('workers.') + 1) END
                AND x.route = 'workers' AND x.configured AND NOT x.paused AND x.breaker = 'closed'));
    ELSIF starts_with(room.queue_name, 'archives.') THEN
        RETURN CASE WHEN EXISTS (
            SELECT FROM public.destinations x
            WHERE x.ae_title = substr(room.queue_name, length('archives.') + 1) AND x.route = 'archives'
                AND x.configured AND NOT x.paused AND x.breaker = 'closed'
                AND (x.next_slot_at BETWEEN now() + interval '1 second' AND now() + interval '5 minutes') IS NOT TRUE)
            THEN room.wanted ELSE 0 END;
    END IF;
    RETURN room.wanted;
END $$;

-- Raise an error if TRANSITIONS in gateway/domain/delivery.py lacks a change of state. The condition stands here and not
-- in the trigger, because PostgreSQL reads the condition of a trigger anew for every statement: this one cost as much as
-- the rest of the UPDATE.
CREATE OR REPLACE FUNCTION refuse_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (CASE OLD.state::text
        WHEN 'pending' THEN NEW.state IN ('in_flight', 'delivered', 'dead', 'cancelled', 'collecting')
        WHEN 'collecting' THEN NEW.state IN ('delivered', 'dead', 'cancelled')
        WHEN 'in_flight' THEN NEW.state IN ('delivered', 'pending', 'dead')
        WHEN 'dead' THEN NEW.state IN ('pending', 'cancelled')
        WHEN 'cancelled' THEN NEW.state = 'pending'
        WHEN 'delivered' THEN NEW.state = 'pending'
        ELSE false END)
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'delivery % cannot go from % to %', OLD.id, OLD.state, NEW.state
        USING ERRCODE = 'check_violation', CONSTRAINT = 'deliveries_transition';
END $$;

-- The function decides now; it replaces the long condition of migration 0022.
DROP TRIGGER deliveries_transition ON deliveries;
CREATE TRIGGER deliveries_transition BEFORE UPDATE OF state ON deliveries FOR EACH ROW
    WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION refuse_transition();
