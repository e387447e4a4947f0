-- New deliveries to an application whose unit is a series or a study wait for the rest of it. The order of the units is
-- that in which two registrations lock them.
CREATE OR REPLACE FUNCTION collect_deliveries() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    r record;
BEGIN
    IF NOT EXISTS (SELECT FROM application_units) THEN
        RETURN NULL;
    END IF;
    FOR r IN
        SELECT a.application, i.study_instance_uid AS study,
            CASE a.unit WHEN 'study' THEN i.study_instance_uid ELSE i.series_instance_uid END AS uid,
            array_agg(f.id ORDER BY f.id) AS ids
        FROM fresh f
        JOIN application_units a ON a.application = f.target
        JOIN instances i ON i.id = f.instance_id
        WHERE f.route = 'workers' AND f.state = 'pending'
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    LOOP
        PERFORM join_unit(r.application, r.study, r.uid, r.ids, false);
    END LOOP;
    RETURN NULL;
END $$;
