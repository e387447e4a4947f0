-- Return how many messages of a queue may be claimed now, at most `wanted`. For the PACS: none while it is paused or
-- its breaker is open. For the workers: as many results as those that are up may still have outstanding. So a route
-- that cannot send causes no claims.
CREATE OR REPLACE FUNCTION dramatiq.room(queue_name text, wanted integer) RETURNS integer
LANGUAGE sql STABLE AS $$
    SELECT CASE room.queue_name
        WHEN 'pacs' THEN CASE WHEN EXISTS (
            SELECT FROM public.destinations x
            WHERE x.route = 'pacs' AND x.configured AND (x.paused OR x.breaker = 'open')) THEN 0 ELSE wanted END
        WHEN 'workers' THEN least(wanted, (
            SELECT coalesce(sum(greatest(x.max_outstanding - owed.n, 0)), 0)::integer
            FROM public.destinations x
            CROSS JOIN LATERAL (SELECT count(*) AS n FROM public.expected_results e
                                WHERE e.worker = x.ae_title AND e.state = 'owed') AS owed
            WHERE x.route = 'workers' AND x.configured AND NOT x.paused AND x.breaker = 'closed'))
        ELSE wanted END;
$$;
