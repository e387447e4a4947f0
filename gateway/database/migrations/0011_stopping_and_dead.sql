-- Mark consumers that are stopping. Delete a dead message when its delivery is cancelled or sent again.
--
-- When the grace of a stopping process is over, the process is killed, with the messages that it still runs. These
-- messages are not the cause, so no death is counted for them. A process of the version before sets no mark; its deaths
-- are counted as before.
ALTER TABLE dramatiq.consumers ADD COLUMN stopping_since timestamptz;

-- Delete the dead message of a dead delivery that is cancelled, retried or resent; else it would be reported for ever.
-- If an operator requeues the message itself, it is no longer dead when its delivery changes, so it is kept. Rows that
-- another transaction has locked are skipped, because that transaction may wait for this delivery. An operator can
-- discard a message that remains.
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
