-- Record what a peer answers while it stores nothing, and which instances break associations.
--
-- If failed C-STOREs opened a breaker, only a C-STORE closes it. Until then, the peer gets C-ECHOs and one instance at
-- a time. `answers` is its last answer, for `mini-pacs status`. A worker that gets one instance to try it may have one
-- result more outstanding than it has now; `full_outstanding` keeps its configured maximum meanwhile.
ALTER TABLE destinations ADD COLUMN answers text;
ALTER TABLE destinations ADD COLUMN reason_at timestamptz;
ALTER TABLE destinations ADD COLUMN full_outstanding integer;
ALTER TABLE destinations ADD COLUMN probe_of bigint;
ALTER TABLE destinations ADD COLUMN turn_of bigint;
COMMENT ON COLUMN destinations.answers IS 'its answer to the last probe: a C-ECHO, or an association if it has no Verification';
COMMENT ON COLUMN destinations.reason_at IS 'when `reason` last changed';
COMMENT ON COLUMN destinations.full_outstanding IS 'the configured max_outstanding, while a worker is tried with one instance';
COMMENT ON COLUMN destinations.probe_of IS 'the delivery that tries the peer while its breaker is open; valid while that delivery is in flight';
COMMENT ON COLUMN destinations.turn_of IS 'the suspect delivery that has the turn; valid while that delivery is in flight';

-- The instances over which a peer broke an association: an abort or a timeout after the C-STORE-RQ. There is no foreign
-- key, because `is_suspect` ignores a row after ten minutes.
CREATE TABLE suspects (
    ae_title text NOT NULL,
    instance_id bigint NOT NULL,
    study_instance_uid text NOT NULL,
    calling_ae_title text NOT NULL,
    sender_is_well boolean NOT NULL DEFAULT false,
    failed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (ae_title, instance_id)
);
COMMENT ON COLUMN suspects.sender_is_well IS 'an instance of another study of its sender was delivered since';

ALTER TABLE deliveries ADD COLUMN parked_for text;
COMMENT ON COLUMN deliveries.parked_for IS 'while pending: the peer for which it waits for its turn';
CREATE INDEX deliveries_parked ON deliveries (parked_for, id) WHERE state = 'pending' AND parked_for IS NOT NULL;

-- Return whether an instance is a suspect at a peer. Only the last ten minutes count.
--   by study    it, or another instance of its study, broke an association
--   by sender   instances of three studies of its sender broke one each, and the peer took no other study of that
--               sender since
CREATE FUNCTION is_suspect(p_ae_title text, p_instance_id bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
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

-- Decide whether a claimed delivery may be sent now. Over all processes, one suspect at a time has the turn. Its turn
-- ends when it is no longer in flight, or when its lease has expired because its process died.
--   free   no suspect: send it
--   turn   a suspect that has the turn: send it
--   wait   a suspect, while another one has the turn
-- `was_parked`: the delivery was parked before. After its attempt the caller must wake the next ones (`call_parked`).
CREATE FUNCTION take_turn(
    p_delivery_id bigint, p_ae_title text, OUT verdict text, OUT was_parked boolean
) LANGUAGE plpgsql AS $$
DECLARE
    v_instance_id bigint;
BEGIN
    UPDATE deliveries d SET parked_for = NULL WHERE d.id = p_delivery_id AND d.parked_for IS NOT NULL;
    was_parked := FOUND;
    SELECT d.instance_id INTO v_instance_id FROM deliveries d WHERE d.id = p_delivery_id;
    IF NOT is_suspect(p_ae_title, v_instance_id) THEN
        verdict := 'free';
        RETURN;
    END IF;
    UPDATE destinations x SET turn_of = p_delivery_id
        WHERE x.ae_title = p_ae_title AND (
            x.turn_of IS NULL OR x.turn_of = p_delivery_id OR NOT EXISTS (
                SELECT FROM deliveries o
                WHERE o.id = x.turn_of AND o.state = 'in_flight' AND o.lease_until > now()));
    verdict := CASE WHEN FOUND THEN 'turn' ELSE 'wait' END;
END $$;

-- in_flight -> pending, for the holder of a claim that may not send now. No attempt was made, so none is recorded.
-- `p_wait` is long; normally `call_parked` ends the wait before.
CREATE FUNCTION park_delivery(
    p_delivery_id bigint, p_claim_id uuid, p_ae_title text, p_reason text, p_wait interval, p_actor_name text,
    OUT settled boolean, OUT place_before instance_place, OUT place_after instance_place
) LANGUAGE plpgsql AS $$
DECLARE
    v_instance_id bigint;
BEGIN
    -- Lock the instance before the delivery, as a reception and a settle do: one order of locks.
    SELECT i.id, i.place INTO v_instance_id, place_before FROM instances i
        WHERE i.id = (SELECT d.instance_id FROM deliveries d WHERE d.id = p_delivery_id) FOR NO KEY UPDATE;
    UPDATE deliveries d SET state = 'pending', claim_id = NULL, claimed_by = NULL, lease_until = NULL,
            next_attempt_at = now() + p_wait, last_error = p_reason, parked_for = p_ae_title,
            message_id = dramatiq.send(d.route::text, p_actor_name, jsonb_build_array(d.id), d.priority,
                                       now() + p_wait, d.id)
        WHERE d.id = p_delivery_id AND d.state = 'in_flight' AND d.claim_id = p_claim_id;
    settled := FOUND;
    IF settled THEN
        place_after := place_of(v_instance_id);
        UPDATE instances i SET place = place_after WHERE i.id = v_instance_id AND i.place <> place_after;
    END IF;
END $$;

-- Make parked deliveries of a peer due now; return how many.
--
-- Choose at most `p_most` that are not suspect, and one suspect if no suspect has the turn. Among the suspects, one
-- that did not fail itself comes first. Rows that another transaction has locked are skipped. A delivery that waits for
-- another version is not chosen: it could not be claimed yet, and its wake-up would be lost.
CREATE FUNCTION call_parked(p_ae_title text, p_most integer) RETURNS integer LANGUAGE sql AS $$
    WITH parked AS MATERIALIZED (
        SELECT d.id, d.instance_id, is_suspect(p_ae_title, d.instance_id) AS suspect,
            EXISTS (SELECT FROM suspects s
                    WHERE s.ae_title = p_ae_title AND s.instance_id = d.instance_id) AS failed
        FROM (SELECT w.id, w.instance_id FROM deliveries w
              WHERE w.state = 'pending' AND w.parked_for = p_ae_title AND w.next_attempt_at > now()
                  AND version_before(w.id) IS NULL
              ORDER BY w.id LIMIT 200) AS d
    ), chosen AS (
        (SELECT id FROM parked WHERE NOT suspect ORDER BY id LIMIT p_most)
        UNION ALL
        (SELECT id FROM parked
         WHERE suspect AND NOT EXISTS (
            SELECT FROM destinations x JOIN deliveries o ON o.id = x.turn_of
            WHERE x.ae_title = p_ae_title AND o.state = 'in_flight' AND o.lease_until > now())
         ORDER BY failed, id LIMIT 1)
    ), called AS MATERIALIZED (
        SELECT d.id, d.message_id FROM deliveries d JOIN chosen c ON c.id = d.id
        WHERE d.state = 'pending' ORDER BY d.id FOR UPDATE OF d SKIP LOCKED
    ), woken AS (
        UPDATE dramatiq.queue q SET due = now()
        WHERE q.message_id IN (
            SELECT m.message_id FROM dramatiq.queue m JOIN called c ON c.message_id = m.message_id
            WHERE m.state = 'queued' FOR UPDATE OF m SKIP LOCKED)
    ), due AS (
        UPDATE deliveries d SET next_attempt_at = now() FROM called c WHERE d.id = c.id RETURNING d.id
    )
    SELECT count(*)::integer FROM due
$$;
