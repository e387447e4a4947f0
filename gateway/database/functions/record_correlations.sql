-- Record from which instances results were derived. Each result is linked to its sources. The expected results that it meets
-- become arrived, or late if they had timed out, and the messages of their deadlines are deleted. Then the units are answered,
-- and the result is flagged. One call records a batch, because PostgreSQL reads the constraints of a table anew for every
-- statement.
--
-- `p_found` has an object for each result. No expected result is in two of them. The keys of an object:
--   position                the place in the batch; units are answered in this order
--   result_id               the row of the result, or of the original if an original came back unchanged
--   correlation             how its sources were found. It is null for an original that came back: that is not linked or flagged
--   worker                  the worker that made it
--   workers                 the workers that it may come from
--   sources                 its source instances
--   expectations            the expected results that it meets
--   unit_sources, studies   what finds the units that it answers, see answer_units
--
-- A result that answers one unit of an ambiguous study was found by its study. `late_deliveries`: the deliveries whose
-- expected result had timed out; the caller settles those that were not sent again yet.
CREATE OR REPLACE FUNCTION record_correlations(p_found jsonb)
RETURNS TABLE ("position" integer, correlation correlation, late boolean, is_older boolean, late_deliveries bigint[])
LANGUAGE plpgsql SET plan_cache_mode TO force_generic_plan SET enable_seqscan TO off AS $$
DECLARE
    has_units boolean := EXISTS (SELECT FROM units);
    -- An array, not a join: a plan that was made when the table was empty may read the whole table for a join.
    v_expected bigint[] := ARRAY(
        SELECT x::bigint FROM jsonb_array_elements(p_found) AS o, jsonb_array_elements_text(o -> 'expectations') AS x);
    v_late jsonb;
    f record;
    a record;
BEGIN
    -- In one order, so that two batches cannot deadlock.
    PERFORM FROM expected_results e WHERE e.id = ANY (v_expected) ORDER BY e.id FOR UPDATE;
    INSERT INTO result_sources (result_instance_id, source_instance_id, worker)
        SELECT (o ->> 'result_id')::bigint, x::bigint, o ->> 'worker'
        FROM jsonb_array_elements(p_found) AS o, jsonb_array_elements_text(o -> 'sources') AS x
        ON CONFLICT DO NOTHING;
    WITH met AS (
        UPDATE expected_results e SET
            state = CASE e.state WHEN 'owed' THEN 'arrived'::expectation_state ELSE 'late' END,
            arrived_at = now(), result_instance_id = (o ->> 'result_id')::bigint
        FROM jsonb_array_elements(p_found) AS o, jsonb_array_elements_text(o -> 'expectations') AS x
        WHERE e.id = ANY (v_expected) AND e.id = x::bigint AND e.state IN ('owed', 'timed_out')
        RETURNING o ->> 'position' AS n, e.delivery_id, e.state, e.message_id
    ), gone AS (
        DELETE FROM dramatiq.queue q USING met WHERE q.message_id = met.message_id AND q.state = 'queued'
    )
    SELECT coalesce(jsonb_object_agg(l.n, l.deliveries), '{}') INTO v_late
        FROM (SELECT met.n, jsonb_agg(met.delivery_id) AS deliveries FROM met WHERE met.state = 'late' GROUP BY 1) AS l;
    FOR f IN
        SELECT * FROM jsonb_to_recordset(p_found) AS o (
            "position" integer, result_id bigint, correlation correlation, workers text[], unit_sources bigint[], studies text[])
        ORDER BY o."position"
    LOOP
        "position" := f."position";
        correlation := f.correlation;
        late_deliveries := ARRAY(SELECT x::bigint FROM jsonb_array_elements_text(v_late -> f."position"::text) AS x);
        late := cardinality(late_deliveries) > 0;
        is_older := false;
        IF has_units AND cardinality(f.unit_sources) + cardinality(f.studies) > 0 THEN
            SELECT * INTO a FROM answer_units(f.result_id, f.unit_sources, f.studies, f.workers);
            late := late OR a.late;
            is_older := a.is_older;
            IF f.correlation = 'ambiguous' AND a.answered = 1 THEN
                correlation := 'study';
            END IF;
        END IF;
        IF f.correlation IS NOT NULL THEN
            UPDATE instances i SET correlation = record_correlations.correlation, late = i.late OR record_correlations.late
                WHERE i.id = f.result_id;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;
