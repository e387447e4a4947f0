-- Return how many messages of a queue may be claimed now, at most `wanted`. For an archive: none while it is paused, its
-- breaker is open, or it is not configured. For an application: as many results as those of its workers that are up may
-- still have outstanding. So a target that cannot take anything causes no claims.
CREATE OR REPLACE FUNCTION dramatiq.room(queue_name text, wanted integer) RETURNS integer
LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN room.queue_name = 'pacs' THEN CASE WHEN EXISTS (
            SELECT FROM public.destinations x
            WHERE x.route = 'pacs' AND x.configured AND (x.paused OR x.breaker = 'open')) THEN 0 ELSE wanted END
        WHEN room.queue_name = 'workers' OR starts_with(room.queue_name, 'workers.') THEN least(wanted, (
            SELECT coalesce(sum(greatest(least(x.max_outstanding, a.max_outstanding) - owed.n, 0)), 0)::integer
            FROM public.application_workers a
            JOIN public.destinations x ON x.ae_title = a.ae_title
            CROSS JOIN LATERAL (SELECT count(*) AS n FROM public.expected_results e
                                WHERE e.worker = x.ae_title AND e.state = 'owed') AS owed
            WHERE a.application = CASE room.queue_name WHEN 'workers' THEN 'default'
                                  ELSE substr(room.queue_name, length('workers.') + 1) END
                AND x.route = 'workers' AND x.configured AND NOT x.paused AND x.breaker = 'closed'))
        WHEN starts_with(room.queue_name, 'archives.') THEN CASE WHEN EXISTS (
            SELECT FROM public.destinations x
            WHERE x.ae_title = substr(room.queue_name, length('archives.') + 1) AND x.route = 'archives'
                AND x.configured AND NOT x.paused AND x.breaker = 'closed') THEN wanted ELSE 0 END
        ELSE wanted END;
$$;
