-- Delete the dead message of a dead delivery that is cancelled, retried or resent; else it would be reported for ever.
-- If an operator requeues the message itself, it is no longer dead when its delivery changes, so it is kept. Rows that
-- another transaction has locked are skipped, because that transaction may wait for this delivery. An operator can
-- discard a message that remains.
CREATE OR REPLACE FUNCTION discard_dead_messages() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM dramatiq.queue q WHERE q.message_id IN (
        SELECT x.message_id FROM dramatiq.queue x
        WHERE x.delivery_id = NEW.id AND x.state = 'rejected' FOR UPDATE SKIP LOCKED);
    RETURN NULL;
END $$;
