-- Move a delivery of a repeated instance to the end of the order of its versions, if another version was received before
-- the repeat and after the instance. It is sent again, also within the duplicate window. Return false, with nothing
-- changed, if there is no such version, if a version was received after the repeat, or if the delivery was cancelled or
-- dead only after the repeat was received. The caller is a registration, which holds the lock of the UID.
CREATE OR REPLACE FUNCTION owe_delivery_last(
    p_delivery_id bigint, p_actor_name text, p_priority integer, p_received_at timestamptz
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    d deliveries;
BEGIN
    SELECT * INTO d FROM deliveries x WHERE x.id = p_delivery_id;
    IF NOT FOUND OR (d.state IN ('dead', 'cancelled') AND d.settled_at >= p_received_at)
        OR NOT EXISTS (SELECT FROM other_versions(d.id) AS y WHERE version_order(y) > version_order(d))
        OR EXISTS (
            SELECT FROM instances i JOIN instances v ON v.sop_instance_uid = i.sop_instance_uid AND v.id <> i.id
            WHERE i.id = d.instance_id AND greatest(v.received_at, v.repeated_at) > p_received_at) THEN
        RETURN false;
    END IF;
    -- If it is in flight, it may reach the peer before the newer ones. When those are settled, it is sent again.
    UPDATE deliveries x SET owed_order = nextval('deliveries_id_seq') WHERE x.id = d.id;
    UPDATE deliveries x SET state = 'pending', priority = p_priority, owed_since = now(), attempts = 0, refusals = 0,
            redispatches = 0, next_attempt_at = now(), settled_at = NULL, settled_by = NULL, last_status = NULL,
            last_error = NULL,
            message_id = dramatiq.send(
                queue_of(x.route, x.target), p_actor_name, jsonb_build_array(x.id), p_priority, now(), x.id)
        WHERE x.id = d.id AND x.state IN ('delivered', 'dead', 'cancelled');
    RETURN true;
END $$;
