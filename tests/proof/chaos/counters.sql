-- What was committed, written down by triggers in the transaction that commits it. The rows of the product are purged
-- during the run.
CREATE SCHEMA chaos;
CREATE TABLE chaos.committed (metric text NOT NULL, label text[] NOT NULL, amount bigint NOT NULL);

CREATE FUNCTION chaos.note_instances() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.committed
    SELECT 'instances_received_total', ARRAY[a.kind::text], count(*) FROM added a GROUP BY a.kind;
    RETURN NULL;
END $$;
CREATE FUNCTION chaos.note_repeats() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.committed
    SELECT 'instances_received_total', ARRAY['repeat'], count(*) FROM added a HAVING count(*) > 0;
    RETURN NULL;
END $$;
CREATE FUNCTION chaos.note_attempts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.committed
    SELECT 'delivery_attempts_total', ARRAY[a.destination, CASE WHEN a.fenced THEN 'fenced' ELSE a.outcome END], count(*)
    FROM added a GROUP BY 2;
    RETURN NULL;
END $$;

CREATE TRIGGER chaos_instances AFTER INSERT ON instances REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.note_instances();
CREATE TRIGGER chaos_repeats AFTER INSERT ON repeats REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.note_repeats();
CREATE TRIGGER chaos_attempts AFTER INSERT ON attempts REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.note_attempts();
