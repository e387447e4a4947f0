-- Raise an error if TRANSITIONS in gateway/domain/delivery.py lacks a change of state. The condition stands here and not
-- in the trigger, because PostgreSQL reads the condition of a trigger anew for every statement: this one cost as much as
-- the rest of the UPDATE.
CREATE OR REPLACE FUNCTION refuse_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (CASE OLD.state::text
        WHEN 'pending' THEN NEW.state IN ('in_flight', 'delivered', 'dead', 'cancelled', 'collecting')
        WHEN 'collecting' THEN NEW.state IN ('delivered', 'dead', 'cancelled')
        WHEN 'in_flight' THEN NEW.state IN ('delivered', 'pending', 'dead')
        WHEN 'dead' THEN NEW.state IN ('pending', 'cancelled')
        WHEN 'cancelled' THEN NEW.state = 'pending'
        WHEN 'delivered' THEN NEW.state = 'pending'
        ELSE false END)
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'delivery % cannot go from % to %', OLD.id, OLD.state, NEW.state
        USING ERRCODE = 'check_violation', CONSTRAINT = 'deliveries_transition';
END $$;
