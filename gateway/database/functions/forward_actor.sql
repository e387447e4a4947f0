-- Return the name of the actor that sends on a route. A test compares it with gateway/domain/contract.py.
CREATE OR REPLACE FUNCTION forward_actor(p_route route) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE p_route WHEN 'pacs' THEN 'forward_to_pacs' WHEN 'archives' THEN 'forward_to_archive'
        ELSE 'forward_to_worker' END
$$;
