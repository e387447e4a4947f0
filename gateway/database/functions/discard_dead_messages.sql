-- A dead delivery that is cancelled, retried or resent has no use for its dead message, which would be reported for
-- ever. A requeued message is queued by the time its delivery follows, and stays. Rows that another transaction has
-- locked are skipped, because it may wait for this delivery: what stays dead then can be discarded by hand.
CREATE OR REPLACE FUNCTION discard_dead_messages() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM dramatiq.queue q WHERE q.message_id IN (
        SELECT x.message_id FROM dramatiq.queue x
        WHERE x.delivery_id = NEW.id AND x.state = 'rejected' FOR UPDATE SKIP LOCKED);
    RETURN NULL;
END $$;
