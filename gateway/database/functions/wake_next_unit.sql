-- Make the unit of an application due now that waits longest for a free worker.
CREATE OR REPLACE FUNCTION wake_next_unit(p_application text) RETURNS void LANGUAGE sql AS $$
    WITH next AS (
        SELECT u.id, u.message_id FROM units u
        WHERE u.application = p_application AND u.state = 'complete' AND u.next_attempt_at > now()
        ORDER BY u.priority, u.completed_at LIMIT 1 FOR UPDATE SKIP LOCKED
    ), due AS (
        UPDATE dramatiq.queue q SET due = now() FROM next WHERE q.message_id = next.message_id AND q.state = 'queued'
    )
    UPDATE units u SET next_attempt_at = now() FROM next WHERE u.id = next.id
$$;
