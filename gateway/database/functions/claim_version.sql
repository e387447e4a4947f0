-- pending -> in_flight for a delivery to the PACS whose UID has several versions. All other deliveries are claimed by
-- the statement `claim`, which has the same guards. Return NULL if the delivery is settled, claimed by another process,
-- or waits for another version.
CREATE OR REPLACE FUNCTION claim_version(p_delivery_id bigint, p_consumer bigint, p_lease interval, p_destination text)
RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    v_claim_id uuid;
BEGIN
    IF NOT EXISTS (SELECT FROM deliveries d JOIN instances i ON i.id = d.instance_id
                   WHERE d.id = p_delivery_id AND i.versioned AND d.state IN ('pending', 'in_flight'))
        OR NOT is_in_turn(p_delivery_id) THEN
        RETURN NULL;
    END IF;
    UPDATE deliveries d SET state = 'in_flight', claim_id = gen_random_uuid(), claimed_by = p_consumer,
            lease_until = now() + p_lease, next_attempt_at = NULL, destination = p_destination,
            waits_for_version = NULL, may_have_arrived = true
        WHERE d.id = p_delivery_id AND (
            (d.state = 'pending' AND d.next_attempt_at <= now() + interval '1 second')
            OR (d.state = 'in_flight' AND (d.lease_until < now() OR NOT dramatiq.consumer_alive(d.claimed_by))))
        RETURNING d.claim_id INTO v_claim_id;
    RETURN v_claim_id;
END $$;
