-- Make deliveries that wait for a worker due now, the oldest first. At most `p_most` are due and not yet tried; those
-- that became due within the last 5 seconds count as not yet tried. Rows that another transaction has locked are
-- skipped, so this function never waits for a lock.
CREATE OR REPLACE FUNCTION call_waiting(p_worker text, p_most integer) RETURNS void LANGUAGE sql AS $$
    WITH called AS (
        SELECT d.id, d.message_id FROM deliveries d
        WHERE d.state = 'pending' AND d.waits_for = p_worker AND d.next_attempt_at > now()
        ORDER BY d.id
        LIMIT greatest(p_most - (
            SELECT count(*) FROM deliveries w
            WHERE w.state = 'pending' AND w.waits_for = p_worker
                AND w.next_attempt_at BETWEEN now() - interval '5 seconds' AND now()), 0)
        FOR UPDATE SKIP LOCKED
    ), woken AS (
        UPDATE dramatiq.queue q SET due = now()
        WHERE q.message_id IN (
            SELECT m.message_id FROM dramatiq.queue m JOIN called c ON c.message_id = m.message_id
            WHERE m.state = 'queued' FOR UPDATE OF m SKIP LOCKED)
    )
    UPDATE deliveries d SET next_attempt_at = now() FROM called c WHERE d.id = c.id
$$;
