-- Return a message as Dramatiq reads it (actors/queue/document.py).
CREATE OR REPLACE FUNCTION dramatiq.document(id uuid, queue_name text, actor_name text, args jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
BEGIN
    RETURN jsonb_build_object(
        'queue_name', queue_name,
        'actor_name', actor_name,
        'args', args,
        'kwargs', '{}'::jsonb,
        'options', '{}'::jsonb,
        'message_id', id,
        'message_timestamp', (extract(epoch FROM clock_timestamp()) * 1000)::bigint
    );
END $$;
