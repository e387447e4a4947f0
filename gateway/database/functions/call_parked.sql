-- Make parked deliveries of a peer due now; return how many.
--
-- Choose at most `p_most` that are not suspect, and one suspect if no suspect has the turn. Among the suspects, one
-- that did not fail itself comes first. Rows that another transaction has locked are skipped. A delivery that waits for
-- another version is not chosen: it could not be claimed yet, and its wake-up would be lost.
CREATE OR REPLACE FUNCTION call_parked(p_ae_title text, p_most integer) RETURNS integer LANGUAGE sql AS $$
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
