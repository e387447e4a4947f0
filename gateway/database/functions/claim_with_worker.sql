-- Claim a delivery for a worker (claim_for_worker), and return the claim with the values of its instance, all in one row. If
-- nothing was claimed, only the verdict is not NULL. Its statements are planned once for each connection.
CREATE OR REPLACE FUNCTION claim_with_worker(
    p_delivery_id bigint, p_consumer bigint, p_lease interval, p_result_wait interval, p_by_study boolean,
    p_wait interval, p_actor_name text, p_expire_actor_name text, p_expire_queue text
) RETURNS TABLE (
    verdict text, delivery_id bigint, claim_id text, attempts integer, refusals integer, owed_for interval,
    destination text, target text, instance_id bigint, sop_instance_uid text, study_instance_uid text,
    sop_class_uid text, transfer_syntax_uid text, sha256 text, data_set_size bigint, file_name text, conflict boolean,
    place text
) LANGUAGE plpgsql SET enable_seqscan TO off AS $$
DECLARE
    v_claim_id uuid;
BEGIN
    SELECT c.verdict, c.claim_id INTO verdict, v_claim_id FROM claim_for_worker(
        p_delivery_id, p_consumer, p_lease, p_result_wait, p_by_study, p_wait, p_actor_name, p_expire_actor_name,
        p_expire_queue) AS c;
    SELECT d.id, d.claim_id::text, d.attempts, d.refusals, now() - d.owed_since, d.destination, d.target,
            i.id, i.sop_instance_uid, i.study_instance_uid, i.sop_class_uid, i.transfer_syntax_uid,
            encode(i.sha256, 'hex'), i.data_set_size, i.file_name, i.conflict, i.place::text
        INTO delivery_id, claim_id, attempts, refusals, owed_for, destination, target, instance_id, sop_instance_uid,
            study_instance_uid, sop_class_uid, transfer_syntax_uid, sha256, data_set_size, file_name, conflict, place
        FROM deliveries d JOIN instances i ON i.id = d.instance_id
        WHERE d.id = p_delivery_id AND d.claim_id = v_claim_id;
    RETURN NEXT;
END $$;
