-- A consumer says that it is stopping, and a dead message goes when its delivery is cancelled or owed again.
--
-- What a stopping process still runs when its grace is over is killed with it. That says nothing about the message, so
-- whoever frees it counts no death. A process of the version before writes no mark: its deaths are counted as before.
ALTER TABLE dramatiq.consumers ADD COLUMN stopping_since timestamptz;

-- A dead delivery that is cancelled, retried or resent has no use for its dead message, which would be reported for
-- ever. A requeued message is queued by the time its delivery follows, and stays. Rows that another transaction has
-- locked are skipped, because it may wait for this delivery: what stays dead then can be discarded by hand.
CREATE FUNCTION discard_dead_messages() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM dramatiq.queue q WHERE q.message_id IN (
        SELECT x.message_id FROM dramatiq.queue x
        WHERE x.delivery_id = NEW.id AND x.state = 'rejected' FOR UPDATE SKIP LOCKED);
    RETURN NULL;
END $$;
CREATE TRIGGER deliveries_discard_dead_messages AFTER UPDATE OF state ON deliveries FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND (OLD.state = 'dead' OR NEW.state = 'cancelled'))
    EXECUTE FUNCTION discard_dead_messages();
