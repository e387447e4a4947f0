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
                settled_at = now(), settled_by = 'late: ignore', last_error = 'late: its ' || u.unit || CASE
                    WHEN u.state = 'sending' THEN ' is being sent'
                    WHEN u.sent_at IS NOT NULL THEN ' was sent before'
                    WHEN u.state = 'dead' THEN ' was given up before'
                    ELSE ' was cancelled before' END
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
