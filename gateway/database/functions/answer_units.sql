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
