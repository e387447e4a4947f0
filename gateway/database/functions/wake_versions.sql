-- Wake the deliveries that waited for this one, in the transaction that ends their wait: a settle, a cancel, a dead
-- message, a late result or a rescue. NOTIFY makes other commits wait for a moment; UIDs with versions are rare enough.
CREATE OR REPLACE FUNCTION wake_versions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.deliveries d SET waits_for_version = NULL, message_id = dramatiq.send(
            public.queue_of(d.route, d.target), public.forward_actor(d.route), jsonb_build_array(d.id), d.priority, d.next_attempt_at, d.id)
        WHERE d.id IN (SELECT y.id FROM public.other_versions(NEW.id) AS y
                       WHERE y.state = 'pending' AND y.waits_for_version = NEW.id
                           AND NOT public.comes_before(NEW, public.version_order(y)))
            AND d.state = 'pending';
    IF FOUND THEN
        PERFORM pg_notify('dramatiq.' || NEW.route || '.enqueue', '');
    END IF;
    RETURN NULL;
END $$;
