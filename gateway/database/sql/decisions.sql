-- name: keep
-- Keep the texts of versions of the rules, and what versions decided of instances. What is kept already stays. The file of
-- an instance that no target accepted belongs into sent/.
WITH version AS (
    INSERT INTO rule_versions (digest, rules) SELECT * FROM unnest(%(digests)s::bytea[], %(texts)s::text[])
    ON CONFLICT DO NOTHING),
placed AS (
    UPDATE instances i SET place = 'sent'
    FROM unnest(%(instance_ids)s::bigint[], %(accepted)s::text[]) AS d (instance_id, accepted)
    WHERE i.id = d.instance_id AND d.accepted = '' AND i.place = 'incoming')
INSERT INTO decisions (instance_id, rules, accepted, refused, undecided)
SELECT d.instance_id, d.rules, string_to_array(d.accepted, '\'), string_to_array(d.refused, '\'),
    string_to_array(d.undecided, '\')
FROM unnest(%(instance_ids)s::bigint[], %(rules)s::bytea[], %(accepted)s::text[], %(refused)s::text[],
            %(undecided)s::text[]) AS d (instance_id, rules, accepted, refused, undecided)
ON CONFLICT DO NOTHING;

-- name: of_instances
-- What was decided of each kept version of a SOP Instance UID, the newest first, with the rules that decided.
SELECT i.id AS instance_id, i.received_at, i.kind, i.place, i.study_instance_uid, i.file_name, i.transfer_syntax_uid,
    i.calling_ae_title, i.called_ae_title, d.instance_id IS NOT NULL AS by_rules, d.rules AS digest,
    coalesce(d.accepted, '{}') AS accepted, coalesce(d.refused, '{}') AS refused,
    coalesce(d.undecided, '{}') AS undecided, coalesce(v.rules, '') AS rules, v.first_used,
    (SELECT coalesce(array_agg(o.route || ':' || o.target ORDER BY o.id), '{}')
     FROM deliveries o WHERE o.instance_id = i.id) AS owed
FROM instances i
LEFT JOIN decisions d ON d.instance_id = i.id
LEFT JOIN rule_versions v ON v.digest = d.rules
WHERE i.sop_instance_uid = %(uid)s
ORDER BY i.received_at DESC, i.id DESC
LIMIT %(limit)s;

-- name: undecided
-- Of how many instances that were received lately the rule of each target could not be decided, with the newest one. Only
-- the last of them are counted, up to a limit.
SELECT t.target, count(*) AS instances, (array_agg(x.sop_instance_uid ORDER BY x.instance_id DESC))[1] AS newest,
    max(x.received_at) AS newest_at
FROM (
    SELECT d.instance_id, d.undecided, i.sop_instance_uid, i.received_at
    FROM decisions d JOIN instances i ON i.id = d.instance_id
    WHERE d.undecided <> '{}' AND i.received_at > now() - %(window)s
    ORDER BY d.instance_id DESC LIMIT %(limit)s) AS x
CROSS JOIN LATERAL unnest(x.undecided) AS t (target)
GROUP BY t.target
ORDER BY t.target;
