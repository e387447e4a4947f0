-- name: candidates_by_reference, prepared
-- Kept originals that results name, each with the results that its worker owes for it: one for each application that the
-- worker serves (one that is not overdue is preferred). Of the versions of one SOP Instance UID this returns the first for which a result is expected, else the
-- last that a worker was asked for, else the newest. `asked` has an object for each result. The instances are looked up by
-- arrays, not by a join: a plan that was made when the table was empty may read the whole table for each row of a join.
WITH asked AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(asked)s::jsonb) AS a (
        "position" integer, workers text[], sop_instance_uids text[], series_instance_uids text[], instance_ids bigint[])
), named AS MATERIALIZED (
    SELECT i.id, i.sop_instance_uid, i.series_instance_uid
    FROM instances i
    WHERE i.kind = 'original' AND (
        i.sop_instance_uid = ANY (ARRAY(SELECT unnest(a.sop_instance_uids) FROM asked a))
        OR i.series_instance_uid = ANY (ARRAY(SELECT unnest(a.series_instance_uids) FROM asked a))
        OR i.id = ANY (ARRAY(SELECT unnest(a.instance_ids) FROM asked a)))
), found AS (
    SELECT a."position", a.workers, n.id, n.sop_instance_uid
        FROM asked a CROSS JOIN unnest(a.sop_instance_uids) AS u (uid) JOIN named n ON n.sop_instance_uid = u.uid
    UNION ALL SELECT a."position", a.workers, n.id, n.sop_instance_uid
        FROM asked a CROSS JOIN unnest(a.series_instance_uids) AS u (uid) JOIN named n ON n.series_instance_uid = u.uid
    UNION ALL SELECT a."position", a.workers, n.id, n.sop_instance_uid
        FROM asked a CROSS JOIN unnest(a.instance_ids) AS u (id) JOIN named n ON n.id = u.id
)
SELECT DISTINCT ON (f."position", f.sop_instance_uid) f."position", f.id AS instance_id,
    CASE WHEN e.state IN ('owed', 'timed_out') THEN e.ids ELSE '{}' END AS expectation_ids, e.worker
FROM found f
LEFT JOIN LATERAL (
    SELECT x.id, x.worker, x.state, ARRAY(
        SELECT DISTINCT ON (o.delivery_id) o.id FROM expected_results o
        WHERE o.instance_id = f.id AND o.worker = x.worker AND o.state IN ('owed', 'timed_out')
        ORDER BY o.delivery_id, o.state = 'owed' DESC, o.id DESC) AS ids
    FROM expected_results x
    WHERE x.instance_id = f.id AND x.worker = ANY (f.workers)
    ORDER BY x.state = 'owed' DESC, x.state = 'timed_out' DESC, x.id DESC LIMIT 1) AS e ON true
ORDER BY f."position", f.sop_instance_uid, e.state = 'owed' DESC NULLS LAST, CASE e.state WHEN 'owed' THEN e.id END,
    e.id DESC NULLS LAST, f.id DESC;

-- name: candidates_in_study, prepared
-- The same for the originals of some studies, with expectations that are not overdue only.
SELECT DISTINCT ON (i.sop_instance_uid) i.id AS instance_id,
    CASE e.state WHEN 'owed' THEN e.ids ELSE '{}' END AS expectation_ids, e.worker
FROM instances i
LEFT JOIN LATERAL (
    SELECT x.id, x.worker, x.state, ARRAY(
        SELECT DISTINCT ON (o.delivery_id) o.id FROM expected_results o
        WHERE o.instance_id = i.id AND o.worker = x.worker AND o.state = 'owed'
        ORDER BY o.delivery_id, o.id DESC) AS ids
    FROM expected_results x
    WHERE x.instance_id = i.id AND x.worker = ANY (%(workers)s::text[])
    ORDER BY x.state = 'owed' DESC, x.id DESC LIMIT 1) AS e ON true
WHERE i.kind = 'original' AND i.study_instance_uid = ANY (%(studies)s::text[])
ORDER BY i.sop_instance_uid, e.state = 'owed' DESC NULLS LAST, CASE e.state WHEN 'owed' THEN e.id END,
    e.id DESC NULLS LAST, i.id DESC;

-- name: record, prepared
-- Link results to their sources and mark the expected results that they meet; see functions/record_correlations.sql.
SELECT correlation::text, late, is_older, late_deliveries FROM record_correlations(%(found)s::jsonb) ORDER BY "position";

-- name: answered
-- pending -> delivered: the result came late, so the redispatch, which was not sent yet, is not needed.
UPDATE deliveries SET state = 'delivered', next_attempt_at = NULL, settled_at = now(), message_id = NULL,
    last_error = NULL
WHERE id = ANY (%(delivery_ids)s::bigint[]) AND state IN ({from_states:answered})
RETURNING instance_id;

-- name: flag, prepared
UPDATE instances SET correlation = %(correlation)s::correlation, late = late OR %(late)s
WHERE id = %(instance_id)s;

-- name: expire
SELECT verdict, worker, delivery_id, instance_id FROM expire_expectation(
    %(expectation_id)s, %(max_redispatch)s, %(result_wait)s, %(actor_name)s, %(expire_actor_name)s, %(expire_queue)s);

-- name: overdue
-- Expectations past their deadline, whose message was lost.
SELECT id FROM expected_results WHERE state = 'owed' AND due_at < now() - %(grace)s ORDER BY due_at LIMIT %(limit)s;

-- name: application_of
SELECT d.target FROM expected_results e JOIN deliveries d ON d.id = e.delivery_id WHERE e.id = %(expectation_id)s;

-- name: uids
SELECT study_instance_uid, sop_instance_uid FROM instances WHERE id = %(instance_id)s;

-- name: remember_unmatched
INSERT INTO unmatched_references (result_id, uid)
SELECT %(result_id)s, uid FROM unnest(%(uids)s::text[]) AS uid
ON CONFLICT DO NOTHING;

-- name: forget_unmatched
DELETE FROM unmatched_references WHERE result_id = %(result_id)s;

-- name: unmatched_that_name, prepared
-- The results that matched nothing and name one of these UIDs. The lock keeps two registrations from correlating one
-- result at the same time.
SELECT i.id AS instance_id, i.sop_instance_uid, i.study_instance_uid, i.transfer_syntax_uid, i.file_name, i.place::text,
    i.calling_ae_title, i.remote_address
FROM instances i
WHERE i.id IN (SELECT u.result_id FROM unmatched_references u WHERE u.uid = ANY (%(uids)s::text[]))
ORDER BY i.id
FOR NO KEY UPDATE OF i;
