-- Count a delivery that is cancelled, in the transaction that cancels it.
CREATE OR REPLACE FUNCTION count_cancellation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO counted_cancellations (destination) VALUES (NEW.target);
    RETURN NULL;
END $$;
