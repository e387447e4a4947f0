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
