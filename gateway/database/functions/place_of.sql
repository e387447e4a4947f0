-- The folder that tells an SRE the same as the rows: failed while one is dead, incoming or queued while
-- something is owed, sent when all is settled and something was delivered, failed when all was cancelled.
CREATE OR REPLACE FUNCTION place_of(p_instance_id bigint) RETURNS instance_place LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN bool_or(state = 'dead') THEN 'failed'
        WHEN bool_or(state IN ('pending', 'in_flight')) THEN
            CASE WHEN bool_or(state IN ('pending', 'in_flight') AND (attempts > 0 OR last_error IS NOT NULL))
                 THEN 'queued' ELSE 'incoming' END
        WHEN bool_or(state = 'delivered') THEN 'sent'
        ELSE 'failed' END::instance_place
    FROM deliveries WHERE instance_id = p_instance_id;
$$;
