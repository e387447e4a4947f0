-- A delivery of a unit that is owed again (repeat, retry or resend) joins the unit that is collected now, or begins a new
-- generation.
CREATE OR REPLACE FUNCTION collect_again() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    u units;
BEGIN
    SELECT * INTO u FROM units x WHERE x.id = NEW.unit_id;
    IF FOUND AND EXISTS (SELECT FROM application_units a WHERE a.application = u.application) THEN
        PERFORM join_unit(u.application, u.study_instance_uid, u.uid, ARRAY[NEW.id], true);
    END IF;
    RETURN NULL;
END $$;
