-- Enqueue a message; return its id. Ids sort by the time when the messages are due.
--
-- A claim writes a new version of a message's row, and with it a new entry in the index of the primary key. Ids that
-- start with the due time put messages that are claimed together side by side in this index. If ids started with the
-- time of creation, each claim of a night's retries would change a different page, and PostgreSQL would log that page
-- whole.
--
-- An id is a UUID version 7 (RFC 9562 §5.7), whose time may be altered (§6.1). No code reads the time from an id. Ids
-- from before migration 0003 start with the time of creation.
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
