-- Which transfer syntaxes the archives accept, as they answered when they were asked last.

-- name: note
-- Write the answers of an archive. Writes only changed answers, and returns them.
WITH answers AS (
    SELECT uid, accepted FROM unnest(%(uids)s::text[], %(accepted)s::boolean[]) AS a (uid, accepted)
), before AS MATERIALIZED (
    SELECT s.transfer_syntax_uid AS uid, s.accepted FROM accepted_syntaxes s WHERE s.ae_title = %(ae_title)s
), written AS (
    INSERT INTO accepted_syntaxes AS s (ae_title, transfer_syntax_uid, accepted)
    SELECT %(ae_title)s, uid, accepted FROM answers
    ON CONFLICT ON CONSTRAINT accepted_syntaxes_pkey DO UPDATE SET accepted = EXCLUDED.accepted, since = now(),
        declined_at = CASE WHEN NOT EXCLUDED.accepted THEN now() END
    WHERE s.accepted <> EXCLUDED.accepted
)
SELECT a.uid AS transfer_syntax_uid, a.accepted FROM answers a JOIN before b ON b.uid = a.uid
WHERE b.accepted <> a.accepted ORDER BY a.uid;

-- name: known
SELECT ae_title, transfer_syntax_uid, accepted FROM accepted_syntaxes WHERE ae_title = ANY (%(ae_titles)s::text[])
ORDER BY ae_title, transfer_syntax_uid;

-- name: declined
-- The transfer syntaxes that each configured archive accepted before, and lately began to decline.
SELECT s.ae_title, array_agg(s.transfer_syntax_uid ORDER BY s.transfer_syntax_uid) AS transfer_syntax_uids,
    min(s.declined_at) AS declined_at
FROM accepted_syntaxes s JOIN destinations d ON d.ae_title = s.ae_title AND d.configured AND d.route <> 'workers'
WHERE s.declined_at > now() - %(window)s
GROUP BY s.ae_title ORDER BY s.ae_title;
