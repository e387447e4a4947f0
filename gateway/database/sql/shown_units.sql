-- name: complete
-- collecting -> complete, by an operator, for a series or all of a study; the message of the unit is due now.
WITH chosen AS (
    UPDATE units u SET state = 'complete', completed_at = now(), completed_by = %(by)s, next_attempt_at = now()
    WHERE u.state = 'collecting' AND (u.study_instance_uid = %(uid)s OR u.uid = %(uid)s)
        AND (%(application)s::text IS NULL OR u.application = %(application)s)
    RETURNING u.id, u.application, u.unit, u.uid, u.generation, u.message_id
), due AS (
    UPDATE dramatiq.queue q SET due = now() FROM chosen c WHERE q.message_id = c.message_id AND q.state = 'queued'
)
SELECT c.id AS unit_id, c.application, c.unit, c.uid, c.generation,
    (SELECT count(*) FROM deliveries d WHERE d.unit_id = c.id AND d.state = 'collecting') AS instances
FROM chosen c ORDER BY c.id;

-- name: counts
-- How many units of each application are in each state that is not the last one, and since when.
SELECT application, state::text, count(*) AS units, min(first_at) AS oldest FROM units
WHERE state IN ('collecting', 'complete', 'sending', 'sent') GROUP BY application, state ORDER BY application, state;

-- name: of_studies
-- The units of some studies, oldest first, with the instances of each.
SELECT u.id AS unit_id, u.application, u.unit, u.study_instance_uid, u.uid, u.generation, u.state::text, u.first_at, u.last_at,
    u.completed_at, u.completed_by, u.worker, u.next_attempt_at, u.sent_at, u.settled_at, u.redispatches, u.last_error,
    (SELECT count(*) FROM deliveries d WHERE d.unit_id = u.id) AS instances
FROM units u WHERE u.study_instance_uid = ANY (%(studies)s::text[]) ORDER BY u.id;

-- name: dispatches_of
SELECT p.unit_id, p.worker, p.began_at, p.ended_at, p.outcome, p.instances, p.error, p.timed_out_at, p.result_at
FROM unit_dispatches p WHERE p.unit_id = ANY (%(unit_ids)s::bigint[]) ORDER BY p.id;
