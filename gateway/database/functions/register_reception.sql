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
--   owed_in_part   like owed_again, but not to an archive that has it, which may be the caller, or which got it within the
--                  window; counted
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
        IF v_routes[n] = 'pacs' THEN
            -- The PACS may have had another AE title when the instance came. Its delivery is the same.
            v_targets[n] := coalesce((SELECT d.target FROM deliveries d
                WHERE d.instance_id = register_reception.instance_id AND d.route = 'pacs' ORDER BY d.id DESC LIMIT 1), v_targets[n]);
        END IF;
        SELECT d.id, may_be_back AND (p_origin = 'archive' OR (
                d.state = 'delivered' AND d.settled_at >= v_received_at - v_window))
            INTO v_delivery_id, is_back FROM deliveries d
            WHERE d.instance_id = register_reception.instance_id AND d.route = v_routes[n] AND d.target = v_targets[n];
        -- A repeat keeps the decision of the first reception: a target that refused the instance then does not get it.
        CONTINUE WHEN v_delivery_id IS NULL AND EXISTS (
            SELECT FROM decisions r WHERE r.instance_id = register_reception.instance_id
                AND v_routes[n] || ':' || v_targets[n] = ANY (r.refused));
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
        verdict := CASE WHEN p_origin IN ('perhaps_archive', 'sender') AND EXISTS (
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
