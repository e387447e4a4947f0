-- pending -> in_flight for workers, for several deliveries that are claimed with their messages: the plain case of
-- claim_for_worker. Return their rows.
--
-- Workers are chosen as claim_for_worker does: the free worker that was chosen longest ago is next. These deliveries are
-- left to claim_for_worker: one for which no worker is free, one that is locked, in flight or waits for a worker, one whose
-- UID has several versions, and one of which a result was expected before. A claim of messages waits for no transaction. So a
-- worker whose row is locked is not chosen, and nothing is claimed while another process chooses workers.
--
-- The rules of the choice are those of claim_for_worker; change them in both. The plans are kept: they must use the indexes,
-- also if they were made when the tables were empty. So rows are looked up by ids first, and OFFSET 0 keeps a subquery from
-- becoming a join.
CREATE OR REPLACE FUNCTION claim_for_workers(
    p_delivery_ids bigint[], p_application text, p_consumer bigint, p_lease interval, p_result_wait interval,
    p_expire_actor_name text, p_expire_queue text
) RETURNS SETOF deliveries LANGUAGE plpgsql ROWS 10 SET enable_seqscan TO off SET plan_cache_mode TO force_generic_plan AS $$
BEGIN
    -- The statement below sees what was chosen before this lock was taken.
    IF cardinality(p_delivery_ids) = 0 OR NOT pg_try_advisory_xact_lock(hashtextextended('mini_pacs.worker_turn', 0)) THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH locked AS MATERIALIZED (
        SELECT x.id, x.instance_id, x.route, x.target, x.state, x.next_attempt_at, x.waits_for
        FROM deliveries x WHERE x.id = ANY (p_delivery_ids) FOR NO KEY UPDATE SKIP LOCKED
    ), picked AS (
        SELECT d.id, d.instance_id FROM locked d
        -- Inserting the expected result locks the instance like this, and would wait for a purge that has locked it.
        CROSS JOIN LATERAL (SELECT x.versioned FROM instances x WHERE x.id = d.instance_id FOR KEY SHARE SKIP LOCKED) AS i
        WHERE d.route = 'workers' AND d.target = p_application AND d.state = 'pending'
            AND d.next_attempt_at <= now() + interval '1 second' AND d.waits_for IS NULL AND NOT i.versioned
            AND NOT EXISTS (SELECT FROM expected_results e WHERE e.delivery_id = d.id OFFSET 0)
    ), up AS (
        SELECT x.ae_title, x.last_turn, x.max_outstanding FROM destinations x
        WHERE x.route = 'workers' AND x.configured AND NOT x.paused AND x.breaker = 'closed'
        FOR NO KEY UPDATE SKIP LOCKED
    ), free AS (
        -- a row for each result that may be asked for, in the order in which workers are chosen
        SELECT u.ae_title, row_number() OVER (ORDER BY k, u.last_turn, u.ae_title) AS n
        FROM up u
        JOIN application_workers a ON a.ae_title = u.ae_title AND a.application = p_application
        CROSS JOIN LATERAL (SELECT count(*) AS n FROM expected_results e
                            WHERE e.worker = u.ae_title AND e.state = 'owed') AS owed
        CROSS JOIN LATERAL (SELECT count(*) AS n FROM units w
                            WHERE w.worker = u.ae_title AND w.state IN ('sending', 'sent')) AS whole
        CROSS JOIN LATERAL generate_series(1, least(
            cardinality(p_delivery_ids), least(u.max_outstanding, a.max_outstanding) - owed.n - whole.n)) AS k
    ), chosen AS MATERIALIZED (
        SELECT p.id, p.instance_id, f.ae_title, gen_random_uuid() AS claim_id, nextval('worker_turn') AS turn
        FROM (SELECT picked.*, row_number() OVER (ORDER BY array_position(p_delivery_ids, picked.id)) AS n FROM picked) AS p
        JOIN free f ON f.n = p.n
        ORDER BY p.n
    ), turned AS (
        UPDATE destinations x SET last_turn = c.turn
        FROM (SELECT ae_title, max(turn) AS turn FROM chosen GROUP BY 1) AS c WHERE x.ae_title = c.ae_title
    ), asked AS (
        INSERT INTO expected_results (delivery_id, instance_id, worker, claim_id, due_at, message_id)
        SELECT c.id, c.instance_id, c.ae_title, c.claim_id, now() + p_result_wait, dramatiq.new_id(now() + p_result_wait)
        FROM chosen c
        RETURNING id, due_at, message_id
    ), timed AS (
        INSERT INTO dramatiq.queue (message_id, queue_name, message, priority, due)
        SELECT a.message_id, p_expire_queue,
            dramatiq.document(a.message_id, p_expire_queue, p_expire_actor_name, jsonb_build_array(a.id)), 4, a.due_at
        FROM asked a
    )
    UPDATE deliveries x SET state = 'in_flight', claim_id = c.claim_id, claimed_by = p_consumer,
        lease_until = now() + p_lease, destination = c.ae_title, next_attempt_at = NULL, waits_for_version = NULL,
        may_have_arrived = false
    FROM chosen c WHERE x.id = ANY (p_delivery_ids) AND x.id = c.id
    RETURNING x.*;
END $$;
