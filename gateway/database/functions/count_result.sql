-- Count what became of a result that a worker owed, in the transaction that records it.
CREATE OR REPLACE FUNCTION count_result() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO counted_results (destination, outcome, seconds)
    VALUES (NEW.worker, NEW.state::text, greatest(extract(epoch FROM NEW.arrived_at - NEW.asked_at), 0));
    RETURN NULL;
END $$;
