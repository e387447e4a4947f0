-- Return the number of a version as operators see it; 1 is the version that was received first.
CREATE OR REPLACE FUNCTION version_number(p_instance_id bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT count(*) FROM instances i JOIN instances v ON v.sop_instance_uid = i.sop_instance_uid AND v.id <= i.id
    WHERE i.id = p_instance_id
$$;
