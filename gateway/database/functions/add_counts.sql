-- Add to counters, in the caller's transaction. A NULL in p_minutes is the minute of now().
CREATE OR REPLACE FUNCTION add_counts(p_names text[], p_labels jsonb[], p_amounts double precision[], p_minutes timestamptz[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    -- the first key of the advisory locks; the queue's locks have one key of 64 bits, so they never collide
    c_locks CONSTANT integer := 1296646997;
    c_slots CONSTANT integer := 64;
    v_slot integer := pg_backend_pid() % c_slots;
    v_tries integer := 0;
BEGIN
    -- the lock ends with the transaction; a transaction that adds again finds its own slot free
    WHILE NOT pg_try_advisory_xact_lock(c_locks, v_slot) LOOP
        v_slot := (v_slot + 1) % c_slots;
        v_tries := v_tries + 1;
        IF v_tries = c_slots THEN
            PERFORM pg_advisory_xact_lock(c_locks, v_slot);
            EXIT;
        END IF;
    END LOOP;
    INSERT INTO counters AS c (name, labels, slot, total)
    SELECT n.name, n.labels, v_slot, sum(n.amount)
    FROM unnest(p_names, p_labels, p_amounts) AS n (name, labels, amount)
    GROUP BY n.name, n.labels ORDER BY n.name, n.labels
    ON CONFLICT ON CONSTRAINT counters_pkey DO UPDATE SET total = c.total + EXCLUDED.total;
    INSERT INTO counter_minutes AS c (minute, name, labels, slot, amount)
    SELECT date_trunc('minute', coalesce(n.minute, now())), n.name, n.labels, v_slot, sum(n.amount)
    FROM unnest(p_names, p_labels, p_amounts, p_minutes) AS n (name, labels, amount, minute)
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT ON CONSTRAINT counter_minutes_pkey DO UPDATE SET amount = c.amount + EXCLUDED.amount;
END $$;
