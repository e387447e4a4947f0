-- For a reception that repeats an instance, under the lock of its UID: where another version was received after it, it
-- is owed again as the last one, whatever the duplicate window. False: no other version was received after it.
CREATE OR REPLACE FUNCTION owe_last(p_instance_id bigint, p_route route, p_actor_name text, p_priority integer)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    d deliveries;
BEGIN
    SELECT * INTO d FROM deliveries x WHERE x.instance_id = p_instance_id AND x.route = p_route;
    IF NOT FOUND OR NOT EXISTS (SELECT FROM other_versions(d.id) AS y WHERE version_order(y) > version_order(d)) THEN
        RETURN false;
    END IF;
    -- One that is in flight may arrive before the newer ones. Their settle finds it delivered and sends it again.
    UPDATE deliveries x SET owed_order = nextval('deliveries_id_seq') WHERE x.id = d.id;
    UPDATE deliveries x SET state = 'pending', priority = p_priority, owed_since = now(), attempts = 0, refusals = 0,
            redispatches = 0, next_attempt_at = now(), settled_at = NULL, settled_by = NULL, last_status = NULL,
            last_error = NULL,
            message_id = dramatiq.send(p_route::text, p_actor_name, jsonb_build_array(x.id), p_priority, now(), x.id)
        WHERE x.id = d.id AND x.state IN ('delivered', 'dead', 'cancelled');
    RETURN true;
END $$;
