-- Move a repeated instance to the end of the order of its versions, if another version was received before the repeat and
-- after it. It is sent again, also within the duplicate window. Return false, with nothing changed, if there is no such
-- version, if a version was received after the repeat, or if the delivery was cancelled or dead only after the repeat was
-- received. The caller is a registration, which holds the lock of the UID.
CREATE OR REPLACE FUNCTION owe_last_received(
    p_instance_id bigint, p_route route, p_actor_name text, p_priority integer, p_received_at timestamptz
) RETURNS boolean LANGUAGE sql AS $$
    SELECT NOT EXISTS (
            SELECT FROM instances i JOIN instances v ON v.sop_instance_uid = i.sop_instance_uid AND v.id <> i.id
            WHERE i.id = p_instance_id AND greatest(v.received_at, v.repeated_at) > p_received_at)
        AND NOT EXISTS (
            SELECT FROM deliveries d WHERE d.instance_id = p_instance_id AND d.route = p_route
                AND d.state IN ('dead', 'cancelled') AND d.settled_at >= p_received_at)
        AND owe_last(p_instance_id, p_route, p_actor_name, p_priority)
$$;
