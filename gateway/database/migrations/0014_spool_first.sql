-- breaking: stop the sweep and the actors of the version before
-- To go back, wait until `mini-pacs status` shows no unregistered reception.
--
-- Success is answered before PostgreSQL has the rows. The file holds all that its registration needs.
--
-- A process of the version before would move a file without a row to orphaned/. Here such a file is a reception that is
-- not registered yet.
ALTER TABLE instances ADD COLUMN reception_id uuid;
COMMENT ON COLUMN instances.reception_id IS 'the reception that brought the file; NULL: received by a version before 0.3.0';

-- The receptions that repeated a stored instance, so that none is registered twice.
CREATE TABLE repeats (
    reception_id uuid CONSTRAINT repeats_pkey PRIMARY KEY,
    instance_id bigint NOT NULL CONSTRAINT repeats_instance_id_fkey REFERENCES instances ON DELETE CASCADE,
    registered_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX repeats_by_instance ON repeats (instance_id);
CREATE INDEX repeats_by_time ON repeats (registered_at);

-- What a result names that matched nothing. When one of these instances, series or studies is registered later, the
-- result is correlated again.
CREATE TABLE unmatched_references (
    result_id bigint NOT NULL CONSTRAINT unmatched_references_result_id_fkey REFERENCES instances ON DELETE CASCADE,
    uid text NOT NULL,
    CONSTRAINT unmatched_references_pkey PRIMARY KEY (uid, result_id));
CREATE INDEX unmatched_references_by_result ON unmatched_references (result_id);

-- Move a repeated instance to the end of the order of its versions, if another version was received before the repeat and
-- after it. It is sent again, also within the duplicate window. Return false, with nothing changed, if there is no such
-- version, if a version was received after the repeat, or if the delivery was cancelled or dead only after the repeat was
-- received. The caller is a registration, which holds the lock of the UID.
CREATE OR REPLACE FUNCTION owe_last_received(
    p_instance_id bigint, p_route route, p_actor_name text, p_priority integer, p_received_at timestamptz
) RETURNS boolean LANGUAGE sql AS $$
    SELECT NOT EXISTS (
            SELECT FROM instances i JOIN instances v ON v.sop_instance_uid = i.sop_instance_uid AND v.id <> i.id
            WHERE i.id = p_instance_id AND greatest(v.received_at, v.repeated_at) > p_received_at)
        AND NOT EXISTS (
            SELECT FROM deliveries d WHERE d.instance_id = p_instance_id AND d.route = p_route
                AND d.state IN ('dead', 'cancelled') AND d.settled_at >= p_received_at)
        AND owe_last(p_instance_id, p_route, p_actor_name, p_priority)
$$;

-- Give a version that is registered late its place in the order: before the versions that were received after it. Two
-- receivers may register in another order than they received. The later versions get new numbers; one that was
-- delivered already is sent again after this one (owe_newest_again). The caller is a registration, which holds the lock
-- of the UID.
CREATE OR REPLACE FUNCTION put_before_later_versions(p_instance_id bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_uid text;
    v_later bigint[];
BEGIN
    SELECT i.sop_instance_uid, ARRAY(
            SELECT v.id FROM instances v
            WHERE v.sop_instance_uid = i.sop_instance_uid AND v.id <> i.id
                AND greatest(v.received_at, v.repeated_at) > i.received_at
            ORDER BY greatest(v.received_at, v.repeated_at), v.id)
        INTO v_uid, v_later FROM instances i WHERE i.id = p_instance_id;
    IF cardinality(v_later) = 0 THEN
        RETURN;
    END IF;
    PERFORM lock_versions(v_uid);
    UPDATE deliveries d SET owed_order = o.place
        FROM (SELECT y.id, nextval('deliveries_id_seq') AS place
              FROM (SELECT x.id FROM deliveries x WHERE x.instance_id = ANY (v_later)
                    ORDER BY array_position(v_later, x.instance_id), x.id) AS y) AS o
        WHERE d.id = o.id;
END $$;

-- Register one reception: write the row of its instance, its deliveries and their messages in the caller's transaction. A
-- reception that is registered already changes nothing, so a caller that does not know the outcome of its commit calls
-- again.
--
-- A repeat is not sent again while its delivery is under way, nor if it was delivered less than `p_window` before it was
-- received. Later, or if the delivery was dead or cancelled before it was received, it is sent again (G4). All times are
-- times of reception, because a reception may be registered hours later.
--
-- `p_origin` is what the caller is; see Origin in gateway/domain/routing.py:
--   pacs          the PACS, by AE title and address: an instance that was delivered to it is never sent to it again
--   perhaps_pacs  perhaps the PACS: the window is at least 30 s. After such repeats of an instance were sent again five
--                 times, the window doubles with each further one, up to a day
--   worker        a worker: its repeats are never counted as not forwarded
--   sender        any other caller
--
-- A stored result stays a result, whoever repeats it. A new version of a stored result is a result, too, unless an
-- original with that UID is stored as well and the caller cannot be the PACS. A result is sent to the PACS only, so it
-- never reaches a worker.
--
-- Verdicts:
--   registered     this reception is registered already; nothing was done
--   stored         a new row
--   conflict       a new row; another version of the same SOP Instance UID is stored
--   duplicate      its delivery is under way, or a worker repeated it; the caller's file is superfluous
--   not_forwarded  it was delivered and is not sent again; counted; the caller's file is superfluous
--   owed_again     the stored file is sent again; the caller's file is superfluous
--   owed_in_part   like owed_again, but not to the PACS, which may be the caller; counted
--   equals_source  a result with the bytes of a stored original: sent to the PACS only if the original has no delivery
--                  to it; the caller's file is superfluous
--   name_taken     nothing was done: another version has that file name; call again with another name
CREATE OR REPLACE FUNCTION register_reception(
    p_sop_instance_uid text, p_study_instance_uid text, p_series_instance_uid text, p_sop_class_uid text,
    p_transfer_syntax_uid text, p_sha256 bytea, p_data_set_size bigint, p_calling_ae_title text,
    p_called_ae_title text, p_remote_address text, p_kind instance_kind, p_file_name text,
    p_routes route[], p_actor_names text[], p_priority integer, p_origin text, p_pacs_actor text, p_window interval,
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
    v_routes route[] := p_routes;
    v_actor_names text[] := p_actor_names;
    v_reception_id uuid;
    v_returned integer;
    v_window interval;
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
        kept_kind := CASE WHEN has_result AND (NOT has_original OR p_origin IN ('pacs', 'perhaps_pacs'))
                          THEN 'result' ELSE p_kind END;
        IF kept_kind <> p_kind THEN
            v_routes := ARRAY['pacs']::route[];
            v_actor_names := ARRAY[p_pacs_actor];
        END IF;
        INSERT INTO instances (sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid,
                transfer_syntax_uid, sha256, data_set_size, calling_ae_title, called_ae_title, remote_address,
                kind, conflict, file_name, reception_id, received_at)
            VALUES (p_sop_instance_uid, p_study_instance_uid, p_series_instance_uid, p_sop_class_uid,
                p_transfer_syntax_uid, p_sha256, p_data_set_size, p_calling_ae_title, p_called_ae_title,
                p_remote_address, kept_kind, is_conflict, p_file_name, p_reception_id, v_received_at)
            RETURNING id, file_name, place INTO instance_id, kept_file_name, kept_place;
        -- Draw the ids first, so that one statement writes each row once.
        INSERT INTO deliveries (id, instance_id, route, priority, message_id) OVERRIDING SYSTEM VALUE
            SELECT owed.id, register_reception.instance_id, owed.route, p_priority, dramatiq.send(
                owed.route::text, owed.actor_name, jsonb_build_array(owed.id), p_priority, now(), owed.id)
            FROM (SELECT nextval('deliveries_id_seq') AS id, r.route, r.actor_name
                  FROM unnest(v_routes, v_actor_names) AS r (route, actor_name)) AS owed;
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
        v_routes := ARRAY['pacs']::route[];
        v_actor_names := ARRAY[p_pacs_actor];
    END IF;
    FOR n IN 1 .. cardinality(v_routes) LOOP
        v_window := CASE WHEN v_routes[n] = 'pacs' AND p_origin IN ('pacs', 'perhaps_pacs')
            THEN least(greatest(p_window, interval '30 seconds') * power(2, least(greatest(v_returned - 4, 0), 16)),
                       greatest(p_window, interval '1 day'))
            ELSE p_window END;
        -- If another version was received after this one, the repeat is the newest reception and is sent last.
        -- Exception: within the window the PACS may have sent back what it just got.
        IF NOT equals_source AND NOT (v_routes[n] = 'pacs' AND (p_origin = 'pacs' OR p_origin = 'perhaps_pacs'
                AND EXISTS (SELECT FROM deliveries d
                            WHERE d.instance_id = register_reception.instance_id AND d.route = 'pacs'
                                AND d.state = 'delivered' AND d.settled_at >= v_received_at - v_window)))
            AND owe_last_received(instance_id, v_routes[n], v_actor_names[n], p_priority, v_received_at) THEN
            owed_again := true;
            v_returned := v_returned + (v_routes[n] = 'pacs' AND p_origin = 'perhaps_pacs')::integer;
            CONTINUE;
        END IF;
        INSERT INTO deliveries AS d (instance_id, route, priority)
            VALUES (instance_id, v_routes[n], p_priority)
            ON CONFLICT ON CONSTRAINT deliveries_one_per_route DO UPDATE
                SET state = 'pending', priority = p_priority, owed_since = now(), attempts = 0, refusals = 0,
                    redispatches = 0, next_attempt_at = now(), settled_at = NULL, settled_by = NULL,
                    last_status = NULL, last_error = NULL
                WHERE NOT equals_source AND (
                    (d.state IN ('dead', 'cancelled') AND coalesce(d.settled_at, '-infinity') < v_received_at)
                    OR (d.state = 'delivered' AND d.settled_at < v_received_at - v_window
                        AND NOT (v_routes[n] = 'pacs' AND p_origin = 'pacs')))
            RETURNING d.id INTO v_delivery_id;
        IF FOUND THEN
            owed_again := true;
            IF v_routes[n] = 'pacs' AND p_origin = 'perhaps_pacs' THEN
                v_returned := v_returned + 1;
            END IF;
            UPDATE deliveries d SET message_id = dramatiq.send(
                    v_routes[n]::text, v_actor_names[n], jsonb_build_array(v_delivery_id), p_priority, now(),
                    v_delivery_id)
                WHERE d.id = v_delivery_id;
        END IF;
    END LOOP;
    IF equals_source THEN
        verdict := 'equals_source';
    ELSIF owed_again THEN
        verdict := CASE WHEN p_origin = 'perhaps_pacs' AND EXISTS (
            SELECT FROM deliveries d WHERE d.instance_id = register_reception.instance_id
                AND d.route = 'pacs' AND d.state = 'delivered') THEN 'owed_in_part' ELSE 'owed_again' END;
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
-- so are their actors. The caller sorts the batch by SOP Instance UID, so that two batches lock in the same order,
-- and within one UID by time of reception. The messages of a batch are due in the order of reception, so instances
-- are sent in that order.
CREATE OR REPLACE FUNCTION register_receptions(
    p_sop_instance_uid text[], p_study_instance_uid text[], p_series_instance_uid text[], p_sop_class_uid text[],
    p_transfer_syntax_uid text[], p_sha256 bytea[], p_data_set_size bigint[], p_calling_ae_title text[],
    p_called_ae_title text[], p_remote_address text[], p_kind instance_kind[], p_file_name text[],
    p_routes text[], p_actor_names text[], p_priority integer[], p_origin text[], p_pacs_actor text,
    p_window interval, p_reception_id uuid[], p_received_at timestamptz[]
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
        SELECT nextval('deliveries_id_seq') AS id, f.id AS instance_id, r.route, r.actor_name,
            p_priority[f.n] AS priority, f.due
        FROM fresh f CROSS JOIN LATERAL unnest(
            string_to_array(p_routes[f.n], ','), string_to_array(p_actor_names[f.n], ',')) AS r (route, actor_name)
    ), debts AS (
        INSERT INTO deliveries (id, instance_id, route, priority, message_id) OVERRIDING SYSTEM VALUE
            SELECT o.id, o.instance_id, o.route::route, o.priority, dramatiq.send(
                o.route, o.actor_name, jsonb_build_array(o.id), o.priority, o.due, o.id)
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
                string_to_array(p_routes[n], ',')::route[], string_to_array(p_actor_names[n], ','), p_priority[n],
                p_origin[n], p_pacs_actor, p_window, p_reception_id[n], p_received_at[n]) AS r;
    END LOOP;
END $$;
