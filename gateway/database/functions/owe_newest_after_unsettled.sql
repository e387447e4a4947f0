-- Send the newest version again when a delivery is given up whose process died in an attempt: the peer may have got
-- the older version in that attempt.
CREATE OR REPLACE FUNCTION owe_newest_after_unsettled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.owe_newest_again(NEW.id);
    RETURN NULL;
END $$;
