-- The second version of a UID flags the first one, in the transaction that receives it. A settle of the first that
-- is under way holds its row, and is waited for.
CREATE OR REPLACE FUNCTION flag_versions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.instances i SET versioned = true
        WHERE i.sop_instance_uid = NEW.sop_instance_uid AND NOT i.versioned;
    NEW.versioned := true;
    RETURN NEW;
END $$;
