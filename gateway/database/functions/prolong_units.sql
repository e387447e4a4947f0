-- A repeat of an instance is a sign that its unit is still arriving.
CREATE OR REPLACE FUNCTION prolong_units() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE units u SET last_at = now() FROM deliveries d
        WHERE d.instance_id = NEW.id AND d.state = 'collecting' AND u.id = d.unit_id AND u.state = 'collecting';
    RETURN NULL;
END $$;
