-- Enqueue a message; return its id.
CREATE OR REPLACE FUNCTION dramatiq.send(
    queue_name text,
    actor_name text,
    args jsonb,
    priority integer DEFAULT 4,
    due timestamptz DEFAULT now(),
    delivery_id bigint DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    id uuid := dramatiq.new_id(due);
BEGIN
    INSERT INTO dramatiq.queue (message_id, queue_name, message, priority, due, delivery_id)
    VALUES (
        id,
        send.queue_name,
        dramatiq.document(id, send.queue_name, send.actor_name, send.args),
        send.priority,
        send.due,
        send.delivery_id
    );
    RETURN id;
END
$$;
