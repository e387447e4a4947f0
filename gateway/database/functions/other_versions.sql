-- Return the deliveries of the other versions of a delivery's UID, owed to the same target. The PACS is one target, also under an
-- AE title that it had before.
CREATE OR REPLACE FUNCTION other_versions(p_delivery_id bigint) RETURNS SETOF deliveries LANGUAGE sql STABLE AS $$
    SELECT y.* FROM deliveries x
    JOIN instances i ON i.id = x.instance_id
    JOIN instances v ON v.sop_instance_uid = i.sop_instance_uid AND v.id <> i.id
    JOIN deliveries y ON y.instance_id = v.id AND y.route = x.route AND (y.target = x.target OR x.route = 'pacs')
    WHERE x.id = p_delivery_id
$$;
