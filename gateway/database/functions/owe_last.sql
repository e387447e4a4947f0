-- Move a repeated instance to the end of the order of its versions, if another version was received after it. It is
-- sent again, also within the duplicate window. Return false, with nothing changed, if no other version was received
-- after it. The caller is a reception, which holds the lock of the UID.
CREATE OR REPLACE FUNCTION owe_last(p_instance_id bigint, p_route route, p_actor_name text, p_priority integer)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    d deliveries;
BEGIN
    SELECT * INTO d FROM deliveries x WHERE x.instance_id = p_instance_id AND x.route = p_route;
    IF NOT FOUND OR NOT EXISTS (SELECT FROM other_versions(d.id) AS y WHERE version_order(y) > version_order(d)) THEN
        RETURN false;
    END IF;
    -- If it is in flight, it may reach the peer before the newer ones. When those are settled, it is sent again.
    UPDATE deliveries x SET owed_order = nextval('deliveries_id_seq') WHERE x.id = d.id;
    UPDATE deliveries x SET state = 'pending', priority = p_priority, owed_since = now(), attempts = 0, refusals = 0,
            redispatches = 0, next_attempt_at = now(), settled_at = NULL, settled_by = NULL, last_status = NULL,
            last_error = NULL,
            message_id = dramatiq.send(p_route::text, p_actor_name, jsonb_build_array(x.id), p_priority, now(), x.id)
        WHERE x.id = d.id AND x.state IN ('delivered', 'dead', 'cancelled');
    RETURN true;
END $$;
