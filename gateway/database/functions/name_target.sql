-- Name the target of a delivery that version 0.2.0 inserts: it knows one PACS, and the application `default`.
CREATE OR REPLACE FUNCTION name_target() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.target := CASE WHEN NEW.route = 'workers' THEN 'default' ELSE coalesce(
        (SELECT x.ae_title FROM public.destinations x WHERE x.route = 'pacs' ORDER BY x.configured DESC LIMIT 1), 'PACS') END;
    RETURN NEW;
END $$;
