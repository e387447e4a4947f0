-- Send the newest versions again that an application got before the older ones which a unit brings now: delivered -> pending,
-- so they join this unit or the next one. Return false, with nothing changed, if another version of one of its instances is
-- being sent, or if a newest version is locked by another transaction.
--
-- The caller holds the lock of the unit. A registration locks instances before it, so this never waits for an instance.
CREATE OR REPLACE FUNCTION owe_newer_versions(p_unit units) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_members bigint[] := ARRAY(
        SELECT m.id FROM unit_members(p_unit) AS m JOIN instances i ON i.id = m.instance_id WHERE i.versioned);
    v_newest bigint[];
BEGIN
    IF EXISTS (SELECT FROM unnest(v_members) AS m (id) CROSS JOIN LATERAL other_versions(m.id) AS y WHERE y.state = 'in_flight') THEN
        RETURN false;
    END IF;
    v_newest := ARRAY(
        SELECT DISTINCT newest.id FROM deliveries m CROSS JOIN LATERAL (
            SELECT y.id, y.state FROM other_versions(m.id) AS y
            WHERE version_order(y) > version_order(m) AND y.state IN ('collecting', 'pending', 'delivered')
            ORDER BY version_order(y) DESC LIMIT 1) AS newest
        WHERE m.id = ANY (v_members) AND newest.state = 'delivered' AND newest.id <> ALL (v_members));
    IF cardinality(v_newest) = 0 THEN
        RETURN true;
    END IF;
    IF (SELECT count(*) FROM (
            SELECT FROM instances i JOIN deliveries d ON d.instance_id = i.id WHERE d.id = ANY (v_newest)
            FOR NO KEY UPDATE OF i SKIP LOCKED) AS locked) < cardinality(v_newest) THEN
        RETURN false;
    END IF;
    UPDATE deliveries d SET state = 'pending', attempts = 0, refusals = 0, redispatches = 0, owed_since = now(),
            next_attempt_at = now(), settled_at = NULL, settled_by = NULL,
            last_error = 'sent again, because an older version is sent again',
            message_id = dramatiq.send(
                queue_of(d.route, d.target), forward_actor(d.route), jsonb_build_array(d.id), d.priority, now(), d.id)
        WHERE d.id = ANY (v_newest) AND d.state = 'delivered';
    UPDATE instances i SET place = place_of(i.id) FROM deliveries d
        WHERE d.id = ANY (v_newest) AND i.id = d.instance_id AND i.place <> place_of(i.id);
    RETURN true;
END $$;
