-- The kept rows of an instance, a series or a study, for `mini-pacs why`. Each statement reads through an index of a UID.

-- name: studies
-- The kept studies that hold an instance with that UID, of that series, or of that study; with the number of these instances.
SELECT i.study_instance_uid, i.kind::text, count(*) AS instances, min(i.received_at) AS first_at, max(i.received_at) AS last_at,
    array_agg(DISTINCT i.calling_ae_title || ' at ' || i.remote_address) AS senders,
    count(*) FILTER (WHERE i.conflict) AS conflicts, sum(i.repeats)::bigint AS repeats,
    sum(i.unforwarded)::bigint AS unforwarded, count(*) FILTER (WHERE i.correlation = 'unmatched') AS unmatched
FROM ({fragment:meant_instances}) AS i
GROUP BY i.study_instance_uid, i.kind ORDER BY i.study_instance_uid, i.kind;

-- name: deliveries
-- How many deliveries of them are in each state, by kind and destination.
SELECT i.kind::text, d.route::text, {fragment:shown_target} AS destination, d.state::text, count(*),
    min(d.settled_at) AS first_at, max(d.settled_at) AS last_at
FROM ({fragment:meant_instances}) AS i JOIN deliveries d ON d.instance_id = i.id
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4;

-- name: troubled
-- Those that are not delivered: dead ones first, then cancelled ones, then those that wait longest.
SELECT d.id AS delivery_id, i.sop_instance_uid, i.kind::text, d.route::text, {fragment:shown_target} AS destination, d.state::text, d.attempts,
    d.owed_since, d.next_attempt_at, d.settled_by, d.last_status, d.last_error
FROM ({fragment:meant_instances}) AS i JOIN deliveries d ON d.instance_id = i.id
WHERE d.state <> 'delivered'
ORDER BY array_position(ARRAY['dead', 'cancelled', 'collecting', 'pending', 'in_flight'], d.state::text), d.owed_since, d.id LIMIT %(limit)s;

-- name: ruled_out
-- Instances that the rules did not send to the PACS: how many, by the version of the rules and by the archives that got them.
SELECT i.kind::text, count(*), array_agg(DISTINCT r.target) AS refused, o.archives, encode(d.rules, 'hex') AS digest,
    coalesce(v.rules, '') AS rules, v.first_used, max(i.sop_instance_uid) AS sop_instance_uid
FROM ({fragment:meant_instances}) AS i
JOIN decisions d ON d.instance_id = i.id
LEFT JOIN rule_versions v ON v.digest = d.rules
CROSS JOIN LATERAL unnest(d.refused) AS r (target)
CROSS JOIN LATERAL (SELECT coalesce(array_agg(x.target ORDER BY x.target) FILTER (WHERE x.route = 'archives'), '{}') AS archives,
    coalesce(bool_or(x.route = 'pacs'), false) AS is_owed_to_pacs FROM deliveries x WHERE x.instance_id = i.id) AS o
WHERE NOT o.is_owed_to_pacs AND r.target LIKE 'pacs:%%'
GROUP BY i.kind, o.archives, d.rules, v.rules, v.first_used ORDER BY v.first_used DESC NULLS LAST, o.archives;

-- name: of_sender
-- The kept studies that an AE title sent in a time, the last one first.
SELECT i.study_instance_uid, max(i.received_at) AS last_received_at
FROM instances i
WHERE i.received_at >= %(begin)s AND i.received_at <= %(until)s AND i.calling_ae_title = %(ae_title)s
GROUP BY i.study_instance_uid ORDER BY max(i.received_at) DESC LIMIT %(limit)s;

-- name: series_files
-- One file of each series, in pages from the series that was received last; only series that were received in the page.
SELECT DISTINCT ON (x.series_instance_uid) x.id AS instance_id, x.study_instance_uid, x.series_instance_uid,
    x.transfer_syntax_uid, x.file_name, x.place::text, x.received_at
FROM (SELECT * FROM instances i
    WHERE %(received_at)s::timestamptz IS NULL OR (i.received_at, i.id) < (%(received_at)s::timestamptz, %(id)s::bigint)
    ORDER BY i.received_at DESC, i.id DESC LIMIT %(limit)s) AS x
ORDER BY x.series_instance_uid, x.received_at DESC;

-- name: end_of_page
SELECT i.received_at, i.id AS instance_id FROM instances i
WHERE %(received_at)s::timestamptz IS NULL OR (i.received_at, i.id) < (%(received_at)s::timestamptz, %(id)s::bigint)
ORDER BY i.received_at DESC, i.id DESC OFFSET %(limit)s - 1 LIMIT 1;
