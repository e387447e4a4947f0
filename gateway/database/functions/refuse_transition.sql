-- Raise an error. The trigger calls this for each change of state that TRANSITIONS in gateway/domain/delivery.py lacks.
CREATE OR REPLACE FUNCTION refuse_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'delivery % cannot go from % to %', OLD.id, OLD.state, NEW.state
        USING ERRCODE = 'check_violation', CONSTRAINT = 'deliveries_transition';
END $$;
