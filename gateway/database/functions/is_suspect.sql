-- Return whether an instance is a suspect at a peer. Only the last ten minutes count.
--   by study    it, or another instance of its study, broke an association
--   by sender   instances of three studies of its sender broke one each, and the peer took no other study of that
--               sender since
CREATE OR REPLACE FUNCTION is_suspect(p_ae_title text, p_instance_id bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM instances i JOIN suspects s ON s.study_instance_uid = i.study_instance_uid
        WHERE i.id = p_instance_id AND s.ae_title = p_ae_title AND s.failed_at > now() - interval '10 minutes'
    ) OR (
        SELECT count(DISTINCT s.study_instance_uid) >= 3
        FROM instances i JOIN suspects s ON s.calling_ae_title = i.calling_ae_title
        WHERE i.id = p_instance_id AND s.ae_title = p_ae_title AND NOT s.sender_is_well
            AND s.failed_at > now() - interval '10 minutes'
    );
$$;
