-- Cancelled deliveries are counted in the transaction that cancels them, as registrations and attempts are.
CREATE TABLE counted_cancellations (
    counted_at timestamptz NOT NULL DEFAULT now(),
    destination text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, vacuum_truncate = off);
COMMENT ON COLUMN counted_cancellations.destination IS 'the target of the delivery: an archive or an application';

-- Count a delivery that is cancelled, in the transaction that cancels it.
CREATE OR REPLACE FUNCTION count_cancellation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO counted_cancellations (destination) VALUES (NEW.target);
    RETURN NULL;
END $$;

CREATE TRIGGER cancellations_are_counted AFTER UPDATE OF state ON deliveries
    FOR EACH ROW WHEN (NEW.state = 'cancelled' AND OLD.state <> 'cancelled') EXECUTE FUNCTION count_cancellation();

-- Move what the transactions counted into `counters`, all or nothing. Return false if another process does that now.
--
-- A histogram is a counter for each bucket, with the upper bound of the bucket as label `le`, and one for the sum. After
-- p_titles different AE titles further ones are counted as `other`, so that the number of series stays bounded.
CREATE OR REPLACE FUNCTION fold_counts(
    p_duration_bounds double precision[], p_long_bounds double precision[], p_titles integer
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    -- beside the locks of the slots in add_counts
    c_locks CONSTANT integer := 1296646998;
    v_nothing text;
BEGIN
    IF NOT pg_try_advisory_xact_lock(c_locks, 0) THEN
        RETURN false;
    END IF;
    WITH gone AS (
        DELETE FROM counted_receptions RETURNING *
    ), known AS (
        SELECT DISTINCT c.labels->>'calling_aet' AS title FROM counters c
        WHERE c.name = 'received_bytes' AND c.labels->>'calling_aet' <> 'other'
    ), admitted AS (
        SELECT title FROM known
        UNION ALL
        (SELECT DISTINCT g.calling_ae_title FROM gone g
         WHERE NOT EXISTS (SELECT FROM known k WHERE k.title = g.calling_ae_title)
         ORDER BY 1 LIMIT greatest(p_titles - (SELECT count(*) FROM known), 0))
    ), received AS (
        SELECT date_trunc('minute', g.counted_at) AS minute, coalesce(a.title, 'other') AS title, g.kind,
            sum(g.receptions) AS receptions, sum(g.bytes) AS bytes
        FROM gone g LEFT JOIN admitted a ON a.title = g.calling_ae_title GROUP BY 1, 2, 3
    ), tried AS (
        DELETE FROM counted_attempts RETURNING date_trunc('minute', counted_at) AS minute, destination, outcome,
            seconds, since_reception_seconds, counted_at,
            width_bucket(seconds, p_duration_bounds) AS bucket,
            width_bucket(since_reception_seconds, p_long_bounds) AS long_bucket
    ), succeeded AS (
        INSERT INTO last_successes AS l (destination, succeeded_at)
            SELECT t.destination, max(t.counted_at) FROM tried t WHERE t.outcome = 'delivered' GROUP BY 1
            ON CONFLICT ON CONSTRAINT last_successes_pkey
                DO UPDATE SET succeeded_at = greatest(l.succeeded_at, EXCLUDED.succeeded_at)
    ), results AS (
        DELETE FROM counted_results RETURNING date_trunc('minute', counted_at) AS minute, destination, outcome,
            seconds, width_bucket(seconds, p_long_bounds) AS bucket
    ), cancelled AS (
        DELETE FROM counted_cancellations RETURNING date_trunc('minute', counted_at) AS minute, destination
    ), counts (minute, name, labels, amount) AS (
        SELECT minute, 'instances_received', jsonb_build_object('calling_aet', title, 'kind', kind), receptions::float8
        FROM received
        UNION ALL
        SELECT minute, 'received_bytes', jsonb_build_object('calling_aet', title), sum(bytes)::float8
        FROM received GROUP BY 1, title
        UNION ALL
        SELECT minute, 'delivery_attempts', jsonb_build_object('destination', destination, 'outcome', outcome), count(*)
        FROM tried GROUP BY 1, destination, outcome
        UNION ALL
        SELECT minute, 'delivery_duration_seconds_bucket', jsonb_build_object('destination', destination,
            'le', coalesce(p_duration_bounds[bucket + 1]::text, '+Inf')), count(*)
        FROM tried GROUP BY 1, destination, bucket
        UNION ALL
        SELECT minute, 'delivery_duration_seconds_sum', jsonb_build_object('destination', destination), sum(seconds)
        FROM tried GROUP BY 1, destination
        UNION ALL
        SELECT minute, 'end_to_end_seconds_bucket', jsonb_build_object('destination', destination,
            'le', coalesce(p_long_bounds[long_bucket + 1]::text, '+Inf')), count(*)
        FROM tried WHERE since_reception_seconds IS NOT NULL GROUP BY 1, destination, long_bucket
        UNION ALL
        SELECT minute, 'end_to_end_seconds_sum', jsonb_build_object('destination', destination), sum(since_reception_seconds)
        FROM tried WHERE since_reception_seconds IS NOT NULL GROUP BY 1, destination
        UNION ALL
        SELECT minute, 'results', jsonb_build_object('destination', destination, 'outcome', outcome), count(*)
        FROM results GROUP BY 1, destination, outcome
        UNION ALL
        SELECT minute, 'result_duration_seconds_bucket', jsonb_build_object('destination', destination,
            'le', coalesce(p_long_bounds[bucket + 1]::text, '+Inf')), count(*)
        FROM results WHERE seconds IS NOT NULL GROUP BY 1, destination, bucket
        UNION ALL
        SELECT minute, 'result_duration_seconds_sum', jsonb_build_object('destination', destination), sum(seconds)
        FROM results WHERE seconds IS NOT NULL GROUP BY 1, destination
        UNION ALL
        SELECT minute, 'deliveries_cancelled', jsonb_build_object('destination', destination), count(*)
        FROM cancelled GROUP BY 1, destination
    )
    SELECT add_counts(array_agg(c.name), array_agg(c.labels), array_agg(c.amount), array_agg(c.minute))
        INTO v_nothing FROM counts c HAVING count(*) > 0;
    RETURN true;
END $$;
