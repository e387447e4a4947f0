-- Return how many messages of a queue may be claimed now, at most `wanted`. For an archive: none while it is paused, its
-- breaker is open, it is not configured, or its rate is used up. For an application: as many as its workers that are up
-- may still take. Results of instances and of units count alike. If they may take none, the places count that processes hold
-- which are gone. So a target that cannot take anything causes no claims.
--
-- A unit that is being sent does not count: its process may be gone, and then its message must be claimed again.
--
-- In PL/pgSQL, because PostgreSQL would plan a function in SQL anew at each claim. The plans are kept: they must use
-- the indexes, also if they were made when the tables were small.
CREATE OR REPLACE FUNCTION dramatiq.room(queue_name text, wanted integer) RETURNS integer
LANGUAGE plpgsql STABLE SET enable_seqscan TO off AS $$
DECLARE
    v_application text;
    v_room integer;
BEGIN
    IF room.queue_name = 'pacs' THEN
        RETURN CASE WHEN EXISTS (
            SELECT FROM public.destinations x
            WHERE x.route = 'pacs' AND x.configured
                AND (x.paused OR x.breaker = 'open'
                    OR x.next_slot_at BETWEEN now() + interval '1 second' AND now() + interval '5 minutes'))
            THEN 0 ELSE room.wanted END;
    ELSIF room.queue_name = 'workers' OR starts_with(room.queue_name, 'workers.') THEN
        v_application := CASE room.queue_name WHEN 'workers' THEN 'default'
                         ELSE substr(room.queue_name, length('workers.') + 1) END;
        v_room := (
            SELECT coalesce(sum(greatest(least(x.max_outstanding, a.max_outstanding) - owed.n - sent.n, 0)), 0)::integer
            FROM public.application_workers a
            JOIN public.destinations x ON x.ae_title = a.ae_title
            CROSS JOIN LATERAL (SELECT count(*) AS n FROM public.expected_results e
                                WHERE e.worker = x.ae_title AND e.state = 'owed') AS owed
            CROSS JOIN LATERAL (SELECT count(*) AS n FROM public.units u
                                WHERE u.worker = x.ae_title AND u.state = 'sent') AS sent
            WHERE a.application = v_application
                AND x.route = 'workers' AND x.configured AND NOT x.paused AND x.breaker = 'closed');
        IF v_room = 0 THEN
            -- The places that processes hold which are gone. The message of such a delivery must be claimed again: only it
            -- ends the old claim.
            v_room := (
                SELECT count(*) FROM public.application_workers a
                JOIN public.destinations x ON x.ae_title = a.ae_title
                JOIN public.expected_results e ON e.worker = x.ae_title AND e.state = 'owed'
                JOIN public.deliveries d ON d.id = e.delivery_id
                WHERE a.application = v_application
                    AND x.route = 'workers' AND x.configured AND NOT x.paused AND x.breaker = 'closed'
                    AND d.state = 'in_flight' AND d.claim_id = e.claim_id AND NOT dramatiq.consumer_alive(d.claimed_by));
        END IF;
        RETURN least(room.wanted, v_room);
    ELSIF starts_with(room.queue_name, 'archives.') THEN
        RETURN CASE WHEN EXISTS (
            SELECT FROM public.destinations x
            WHERE x.ae_title = substr(room.queue_name, length('archives.') + 1) AND x.route = 'archives'
                AND x.configured AND NOT x.paused AND x.breaker = 'closed'
                AND (x.next_slot_at BETWEEN now() + interval '1 second' AND now() + interval '5 minutes') IS NOT TRUE)
            THEN room.wanted ELSE 0 END;
    END IF;
    RETURN room.wanted;
END $$;
