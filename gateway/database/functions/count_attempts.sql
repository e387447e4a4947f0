-- Count the attempts that a statement added, in its transaction. Only add rows, so that no transaction waits for another.
-- The time from the reception is measured the first time that a destination has the instance.
CREATE OR REPLACE FUNCTION count_attempts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO counted_attempts (destination, outcome, seconds, since_reception_seconds)
    SELECT a.destination, CASE WHEN a.fenced THEN 'fenced' ELSE a.outcome END, a.duration_ms / 1000,
        CASE WHEN NOT a.fenced AND d.state = 'delivered' AND NOT EXISTS (
                SELECT FROM attempts b WHERE b.delivery_id = a.delivery_id AND b.id < a.id AND NOT b.fenced
                    AND b.destination = a.destination AND b.outcome IN ('delivered', 'already_there'))
            THEN greatest(extract(epoch FROM a.ended_at - greatest(i.received_at, i.repeated_at)), 0) END
    FROM added a LEFT JOIN deliveries d ON d.id = a.delivery_id LEFT JOIN instances i ON i.id = d.instance_id;
    RETURN NULL;
END $$;
