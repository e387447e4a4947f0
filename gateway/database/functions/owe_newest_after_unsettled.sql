-- A delivery whose process died in the attempt, and that is given up before it was sent again, may have arrived.
CREATE OR REPLACE FUNCTION owe_newest_after_unsettled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.owe_newest_again(NEW.id);
    RETURN NULL;
END $$;
