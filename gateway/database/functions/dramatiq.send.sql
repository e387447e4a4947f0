-- Message ids in the order in which messages are due.
--
-- A claim writes a new version of a message's row, and with it a new entry of the primary key. Messages that were
-- written in one order and are due in another (a night's retries) were claimed from the whole width of that
-- key, a page of it for each, dirtied and logged whole. With the due time in front of the id, what is
-- claimed together lies together there, whenever it was written.
--
-- An id is UUID version 7 as before (RFC 9562 §5.7, whose time may be altered: §6.1), and nobody reads time from
-- it. Ids written before stay as they are.
CREATE OR REPLACE FUNCTION dramatiq.send(
    queue_name text,
    actor_name text,
    args jsonb,
    priority integer DEFAULT 4,
    due timestamptz DEFAULT now(),
    delivery_id bigint DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    -- 48 bits of milliseconds since 1970; an infinite due time has none
    millis bigint := CASE WHEN isfinite(due)
        THEN least(greatest((extract(epoch FROM due) * 1000)::bigint, 0), 281474976710655)
        ELSE 281474976710655 END;
    id uuid := encode(
        set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid()) PLACING substring(int8send(millis) FROM 3) FROM 1 FOR 6),
            52, 1), 53, 1),
        'hex')::uuid;
BEGIN
    INSERT INTO dramatiq.queue (message_id, queue_name, message, priority, due, delivery_id)
    VALUES (
        id,
        send.queue_name,
        jsonb_build_object(
            'queue_name', send.queue_name,
            'actor_name', send.actor_name,
            'args', send.args,
            'kwargs', '{}'::jsonb,
            'options', '{}'::jsonb,
            'message_id', id,
            'message_timestamp', (extract(epoch FROM clock_timestamp()) * 1000)::bigint
        ),
        send.priority,
        send.due,
        send.delivery_id
    );
    RETURN id;
END
$$;
