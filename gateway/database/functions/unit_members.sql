-- Return the deliveries that are sent as one unit: its own, and with `resend_all` those that earlier generations delivered.
CREATE OR REPLACE FUNCTION unit_members(u units) RETURNS SETOF deliveries LANGUAGE sql STABLE AS $$
    SELECT d.* FROM deliveries d WHERE d.unit_id = u.id AND d.state IN ('collecting', 'delivered')
    UNION ALL
    SELECT d.* FROM application_units a
    JOIN units e ON e.application = u.application AND e.study_instance_uid = u.study_instance_uid AND e.uid = u.uid
        AND e.generation < u.generation
    JOIN deliveries d ON d.unit_id = e.id AND d.state = 'delivered'
    WHERE a.application = u.application AND a.late = 'resend_all'
$$;
