-- Studies that an operator looks for, by time, sender and state of deliveries, newest first. As in studies.sql a study has the
-- place of its newest instance; here of the newest one that is looked for.

-- name: step
-- The studies of the next instances by time of reception, and as the last row, without a study, how far was read. OFFSET 0
-- keeps the planner from reading all deliveries.
WITH step AS MATERIALIZED (
    SELECT received_at, id, study_instance_uid, calling_ae_title FROM instances
    WHERE {fragment:wanted_time}
        AND (%(received_at)s::timestamptz IS NULL
            OR (received_at <= %(received_at)s AND (received_at, id) < (%(received_at)s, %(id)s)))
    ORDER BY received_at DESC, id DESC LIMIT %(limit)s),
wanted AS (
    SELECT DISTINCT ON (i.study_instance_uid) i.received_at, i.id, i.study_instance_uid FROM step AS i
    WHERE {fragment:wanted_instance}
    ORDER BY i.study_instance_uid, i.received_at DESC, i.id DESC),
reached AS (
    SELECT received_at, id, NULL FROM step ORDER BY received_at, id LIMIT 1)
SELECT received_at, id AS instance_id, study_instance_uid FROM (
    (SELECT * FROM wanted ORDER BY received_at DESC, id DESC) UNION ALL SELECT * FROM reached) AS both_parts;

-- name: newer
-- Which of these studies have a wanted instance at a position or newer: an earlier page has shown them.
SELECT DISTINCT i.study_instance_uid FROM instances i
WHERE i.study_instance_uid = ANY (%(studies)s) AND (i.received_at, i.id) >= (%(received_at)s, %(id)s)
    AND {fragment:wanted_time} AND {fragment:wanted_instance};

-- name: in_states
-- Instances with deliveries in these states, at most `most` of unsettled and of other deliveries.
SELECT DISTINCT instance_id FROM (
    (SELECT d.instance_id FROM deliveries d
     WHERE d.state = ANY (%(states)s::delivery_state[]) AND d.state IN ('collecting', 'pending', 'in_flight')
     LIMIT %(most)s)
    UNION ALL
    (SELECT d.instance_id FROM deliveries d
     WHERE d.state = ANY (%(states)s::delivery_state[]) AND d.state IN ('dead', 'cancelled')
     LIMIT %(most)s)) AS both_parts;

-- name: of_instances
-- The studies of these instances, as far as they are wanted.
SELECT received_at, id AS instance_id, study_instance_uid FROM (
    SELECT DISTINCT ON (i.study_instance_uid) i.received_at, i.id, i.study_instance_uid
    FROM unnest(%(ids)s::bigint[]) AS given (id)
    CROSS JOIN LATERAL (
        SELECT received_at, id, study_instance_uid, calling_ae_title FROM instances WHERE id = given.id OFFSET 0) AS i
    WHERE {fragment:wanted_time} AND (%(sender)s::text IS NULL OR i.calling_ae_title = %(sender)s)
    ORDER BY i.study_instance_uid, i.received_at DESC, i.id DESC) AS wanted
WHERE %(received_at)s::timestamptz IS NULL OR (received_at, id) < (%(received_at)s, %(id)s)
ORDER BY received_at DESC, id DESC LIMIT %(limit)s;

-- name: studies_of
-- The studies that hold an instance with that SOP Instance UID, or a series with that UID.
SELECT study_instance_uid FROM instances WHERE sop_instance_uid = %(uid)s
UNION SELECT study_instance_uid FROM instances WHERE series_instance_uid = %(uid)s
ORDER BY study_instance_uid LIMIT %(limit)s;

-- name: targets
-- Per study how many deliveries of its originals and results to each target are in each state.
SELECT i.study_instance_uid, i.kind::text, d.route::text, d.target, d.state::text, count(*)
FROM unnest(%(studies)s::text[]) AS s (study)
CROSS JOIN LATERAL (SELECT id, study_instance_uid, kind FROM instances WHERE study_instance_uid = s.study OFFSET 0) AS i
CROSS JOIN LATERAL (SELECT route, target, state FROM deliveries WHERE instance_id = i.id OFFSET 0) AS d
GROUP BY i.study_instance_uid, i.kind, d.route, d.target, d.state;

-- name: answers
-- Per study how many deliveries to applications were answered with a result, wait for one, or got none in time. A delivery
-- may have been sent to several workers, one after the other.
SELECT study_instance_uid, state, count(*) FROM (
    SELECT i.study_instance_uid, CASE WHEN bool_or(e.state IN ('arrived', 'late')) THEN 'answered'
        WHEN bool_or(e.state = 'owed') THEN 'owed' ELSE 'overdue' END AS state
    FROM unnest(%(studies)s::text[]) AS s (study)
    CROSS JOIN LATERAL (SELECT id, study_instance_uid FROM instances WHERE study_instance_uid = s.study OFFSET 0) AS i
    CROSS JOIN LATERAL (SELECT delivery_id, state FROM expected_results WHERE instance_id = i.id OFFSET 0) AS e
    GROUP BY i.study_instance_uid, e.delivery_id) AS by_delivery
GROUP BY study_instance_uid, state;

-- name: units
-- Per study how many units of applications are in each state.
SELECT u.study_instance_uid, u.state::text, count(*)
FROM units u WHERE u.study_instance_uid = ANY (%(studies)s::text[]) GROUP BY u.study_instance_uid, u.state;

-- name: senders
-- The AE titles that sent the last instances.
SELECT DISTINCT calling_ae_title FROM (
    SELECT calling_ae_title FROM instances ORDER BY received_at DESC LIMIT %(limit)s) AS last
ORDER BY calling_ae_title;
