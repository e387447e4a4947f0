-- The actor that sends on a route; by contract test the one of gateway.domain.contract.
CREATE OR REPLACE FUNCTION forward_actor(p_route route) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE p_route WHEN 'pacs' THEN 'forward_to_pacs' ELSE 'forward_to_worker' END
$$;
