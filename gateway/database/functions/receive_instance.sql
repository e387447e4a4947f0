-- For processes of version 0.1.0, which run beside newer ones during an upgrade. Replaced by receive_instance_from.
--
-- Receive one instance: write its row, its deliveries and their messages in the caller's transaction (G1). A repeat is
-- not sent again while its delivery is under way, nor if it was delivered less than `p_window` ago. Later, or if the
-- delivery is dead or cancelled, it is sent again (G4).
--   stored      a new row
--   conflict    a new row; another version of the same SOP Instance UID is stored
--   duplicate   nothing is sent again; the caller's file is superfluous
--   owed_again  the stored file is sent again; the caller's file is superfluous
--   name_taken  nothing was done: another version has that file name; call again with another name
CREATE OR REPLACE FUNCTION receive_instance(
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
