-- Give a version that is registered late its place in the order: before the versions that were received after it. Two
-- receivers may register in another order than they received. The later versions get new numbers; one that was
-- delivered already is sent again after this one (owe_newest_again). The caller is a registration, which holds the lock
-- of the UID.
CREATE OR REPLACE FUNCTION put_before_later_versions(p_instance_id bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_uid text;
    v_later bigint[];
BEGIN
    SELECT i.sop_instance_uid, ARRAY(
            SELECT v.id FROM instances v
            WHERE v.sop_instance_uid = i.sop_instance_uid AND v.id <> i.id
                AND greatest(v.received_at, v.repeated_at) > i.received_at
            ORDER BY greatest(v.received_at, v.repeated_at), v.id)
        INTO v_uid, v_later FROM instances i WHERE i.id = p_instance_id;
    IF cardinality(v_later) = 0 THEN
        RETURN;
    END IF;
    PERFORM lock_versions(v_uid);
    UPDATE deliveries d SET owed_order = o.place
        FROM (SELECT y.id, nextval('deliveries_id_seq') AS place
              FROM (SELECT x.id FROM deliveries x WHERE x.instance_id = ANY (v_later)
                    ORDER BY array_position(v_later, x.instance_id), x.id) AS y) AS o
        WHERE d.id = o.id;
END $$;
