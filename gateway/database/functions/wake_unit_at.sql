-- Write the message that looks at a unit at that time; return its id.
CREATE OR REPLACE FUNCTION wake_unit_at(u units, p_due timestamptz) RETURNS uuid LANGUAGE sql AS $$
    SELECT dramatiq.send(queue_of('workers', u.application), 'forward_unit', jsonb_build_array(u.id), u.priority, p_due)
$$;
