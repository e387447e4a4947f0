-- Serialize the claims and settles of one UID. Only called for UIDs with several versions.
CREATE OR REPLACE FUNCTION lock_versions(p_sop_instance_uid text) RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('version ' || p_sop_instance_uid, 1))
$$;
