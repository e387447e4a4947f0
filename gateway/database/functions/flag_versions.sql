-- Mark all versions of a UID when another version of it is received, in the transaction of that reception. A settle of
-- an earlier version that is under way has locked its row, so this trigger waits for it.
CREATE OR REPLACE FUNCTION flag_versions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.instances i SET versioned = true
        WHERE i.sop_instance_uid = NEW.sop_instance_uid AND NOT i.versioned;
    NEW.versioned := true;
    RETURN NEW;
END $$;
