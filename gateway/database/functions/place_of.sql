-- Return the folder of an instance's file, which shows the state of its deliveries.
--   failed     one is dead, or all were cancelled
--   queued     one is not settled, and had an attempt or an error
--   incoming   one is not settled, and none of those had an attempt or an error
--   sent       all are settled, and one was delivered; or it is owed to no target
-- In PL/pgSQL, because PostgreSQL would plan a function in SQL anew at each call. The plan is kept: it must use the index,
-- also if it was made when the table was small.
CREATE OR REPLACE FUNCTION place_of(p_instance_id bigint) RETURNS instance_place LANGUAGE plpgsql STABLE
SET enable_seqscan TO off AS $$
BEGIN
    RETURN (SELECT CASE
        WHEN bool_or(state = 'dead') THEN 'failed'
        WHEN bool_or(state IN ('collecting', 'pending', 'in_flight')) THEN
            CASE WHEN bool_or(state IN ('collecting', 'pending', 'in_flight') AND (attempts > 0 OR last_error IS NOT NULL))
                 THEN 'queued' ELSE 'incoming' END
        WHEN bool_or(state = 'delivered') OR count(*) = 0 THEN 'sent'
        ELSE 'failed' END::public.instance_place
    FROM public.deliveries WHERE instance_id = p_instance_id);
END $$;
