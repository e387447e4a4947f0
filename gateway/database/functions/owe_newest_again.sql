-- Send the newest version again if an attempt with an older one may have reached the peer after the newest. This
-- happens after a resend of an older version, after a redispatch of one, and after an attempt that ended when another
-- process had claimed its delivery.
CREATE OR REPLACE FUNCTION owe_newest_again(p_delivery_id bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    y deliveries;
BEGIN
    SELECT newer.* INTO y FROM deliveries x CROSS JOIN LATERAL other_versions(x.id) AS newer
        WHERE x.id = p_delivery_id AND version_order(newer) > version_order(x)
            AND newer.state IN ('pending', 'in_flight', 'delivered')
        ORDER BY version_order(newer) DESC LIMIT 1;
    IF NOT FOUND OR y.state = 'pending' THEN
        RETURN;
    END IF;
    PERFORM FROM instances i WHERE i.id = y.instance_id FOR NO KEY UPDATE;
    UPDATE deliveries d SET owe_again = true WHERE d.id = y.id AND d.state = 'in_flight';
    UPDATE deliveries d SET state = 'pending', attempts = 0, refusals = 0, redispatches = 0, owed_since = now(),
            next_attempt_at = now(), settled_at = NULL, settled_by = NULL,
            last_error = format('sent again, because delivery %s brought an older version after it', p_delivery_id),
            message_id = dramatiq.send(
                queue_of(d.route, d.target), forward_actor(d.route), jsonb_build_array(d.id), d.priority, now(), d.id)
        WHERE d.id = y.id AND d.state = 'delivered';
    UPDATE instances i SET place = place_of(i.id) WHERE i.id = y.instance_id AND i.place <> place_of(i.id);
END $$;
