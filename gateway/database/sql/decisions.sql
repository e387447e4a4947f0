-- name: keep
-- Keep the texts of versions of the rules, and their decisions about instances. Rows that exist already stay. The file of
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
-- The decision about each kept version of a SOP Instance UID, the newest first, with the rules that decided.
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

-- name: sent_nowhere
-- Of the originals of the last time that the rules of the newest one decided: how many went to no archive, and the last of
-- these. No row if no rule decided the newest one, or if none went nowhere.
WITH last AS MATERIALIZED (
    SELECT i.id, i.received_at, i.sop_instance_uid, i.calling_ae_title FROM instances i
    WHERE i.kind = 'original' AND i.received_at > now() - %(window)s ORDER BY i.received_at DESC, i.id DESC LIMIT %(limit)s),
newest AS (SELECT d.rules FROM last l JOIN decisions d ON d.instance_id = l.id
    WHERE l.id = (SELECT id FROM last ORDER BY received_at DESC, id DESC LIMIT 1)),
decided AS (
    SELECT l.*, d.rules, NOT EXISTS (SELECT FROM unnest(d.accepted) AS t (target) WHERE t.target NOT LIKE 'workers:%%')
        AND EXISTS (SELECT FROM unnest(d.refused) AS t (target) WHERE t.target NOT LIKE 'workers:%%') AS is_nowhere
    FROM last l JOIN decisions d ON d.instance_id = l.id JOIN newest n ON n.rules = d.rules)
SELECT count(*) AS decided, count(*) FILTER (WHERE x.is_nowhere) AS nowhere, min(x.received_at) FILTER (WHERE x.is_nowhere) AS first_at,
    (array_agg(x.sop_instance_uid ORDER BY x.received_at DESC) FILTER (WHERE x.is_nowhere))[1] AS newest,
    (array_agg(x.calling_ae_title ORDER BY x.received_at DESC) FILTER (WHERE x.is_nowhere))[1] AS calling_ae_title,
    (array_agg(x.rules))[1] AS rules
FROM decided x HAVING count(*) FILTER (WHERE x.is_nowhere) > 0;

-- name: undecided
-- Of how many instances that were received lately the rule of each target could not be decided, with the newest one, by
-- version of the rules. Only the last of them are counted, up to a limit.
SELECT t.target, x.rules, count(*) AS instances, (array_agg(x.sop_instance_uid ORDER BY x.instance_id DESC))[1] AS newest,
    max(x.received_at) AS newest_at
FROM (
    SELECT d.instance_id, d.rules, d.undecided, i.sop_instance_uid, i.received_at
    FROM decisions d JOIN instances i ON i.id = d.instance_id
    WHERE d.undecided <> '{}' AND i.received_at > now() - %(window)s
    ORDER BY d.instance_id DESC LIMIT %(limit)s) AS x
CROSS JOIN LATERAL unnest(x.undecided) AS t (target)
GROUP BY t.target, x.rules
ORDER BY t.target;
