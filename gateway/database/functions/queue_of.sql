-- Return the queue that holds the messages of a target. A test compares it with Target.queue in
-- gateway/domain/routing.py.
CREATE OR REPLACE FUNCTION queue_of(p_route route, p_target text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN p_route = 'archives' THEN 'archives.' || p_target
        WHEN p_route = 'workers' AND p_target <> 'default' THEN 'workers.' || p_target
        ELSE p_route::text END
$$;
