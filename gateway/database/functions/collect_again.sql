-- A delivery of a unit that is owed again (repeat, retry or resend) joins the unit that is collected now, or begins a new
-- generation. Its application may get whole studies now, and have got whole series before, or the other way round.
CREATE OR REPLACE FUNCTION collect_again() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    r record;
BEGIN
    SELECT u.application, u.study_instance_uid AS study,
            CASE a.unit WHEN u.unit THEN u.uid WHEN 'study' THEN u.study_instance_uid ELSE i.series_instance_uid END AS uid
        INTO r
        FROM units u
        JOIN application_units a ON a.application = u.application
        JOIN instances i ON i.id = NEW.instance_id
        WHERE u.id = NEW.unit_id;
    IF FOUND THEN
        PERFORM join_unit(r.application, r.study, r.uid, ARRAY[NEW.id], true);
    END IF;
    RETURN NULL;
END $$;
