-- Deliveries that an operator looks for, by state, target, worker, reason or study. Each statement reads a bounded number of rows.

-- name: given_up
-- The newest ids of dead or cancelled deliveries, through an index of their own.
SELECT d.id FROM deliveries d
WHERE d.state = ANY (%(states)s::delivery_state[]) AND d.state IN ('dead', 'cancelled') AND {fragment:wanted_deliveries}
    AND (%(after)s::bigint IS NULL OR d.id < %(after)s)
ORDER BY d.id DESC LIMIT %(limit)s;

-- name: few
-- The ids of unsettled deliveries in any order, at most one more than `most`: more than that are found faster by `window`.
SELECT d.id FROM deliveries d
WHERE d.state = ANY (%(states)s::delivery_state[]) AND d.state IN ('collecting', 'pending', 'in_flight', 'dead')
    AND {fragment:wanted_deliveries}
LIMIT %(most)s + 1;

-- name: window
-- The newest ids in a range of ids.
SELECT d.id FROM deliveries d
WHERE d.id < %(until)s AND d.id >= %(begin)s AND {fragment:wanted_deliveries}
    AND (%(states)s::delivery_state[] IS NULL OR d.state = ANY (%(states)s::delivery_state[]))
ORDER BY d.id DESC LIMIT %(limit)s;

-- name: ends
-- The smallest and the largest id of a delivery.
SELECT coalesce((SELECT id FROM deliveries ORDER BY id LIMIT 1), 0) AS first,
    coalesce((SELECT id FROM deliveries ORDER BY id DESC LIMIT 1), 0) AS last;

-- name: of_study
-- The newest ids of the deliveries of a study, instance by instance.
SELECT d.id FROM instances i
CROSS JOIN LATERAL (SELECT * FROM deliveries WHERE instance_id = i.id OFFSET 0) AS d
WHERE i.study_instance_uid = %(study)s AND {fragment:wanted_deliveries}
    AND (%(states)s::delivery_state[] IS NULL OR d.state = ANY (%(states)s::delivery_state[]))
    AND (%(after)s::bigint IS NULL OR d.id < %(after)s)
ORDER BY d.id DESC LIMIT %(limit)s;

-- name: groups
-- Deliveries that are not delivered, by target, state and reason, the largest group first. Of unsettled and of cancelled ones
-- it reads at most `most` each.
WITH found AS (
    (SELECT route, target, state, last_error, last_status, owed_since, next_attempt_at FROM deliveries d
     WHERE d.state = ANY (%(states)s::delivery_state[]) AND d.state IN ('collecting', 'pending', 'in_flight', 'dead')
        AND {fragment:wanted_deliveries}
     LIMIT %(most)s)
    UNION ALL
    (SELECT route, target, state, last_error, last_status, owed_since, next_attempt_at FROM deliveries d
     WHERE d.state = ANY (%(states)s::delivery_state[]) AND d.state = 'cancelled' AND {fragment:wanted_deliveries}
     LIMIT %(most)s))
SELECT route::text, target, state::text, {fragment:reason_key} AS reason_key, d.last_error AS reason,
    max(d.last_status) AS status, count(*) AS count, min(owed_since) AS oldest, min(next_attempt_at) AS next_attempt_at,
    (sum(count(*)) OVER ())::bigint AS seen
FROM found AS d GROUP BY route, target, state, last_error ORDER BY count DESC, route, target, state, reason_key LIMIT %(limit)s;

-- name: groups_of_study
SELECT d.route::text, d.target, d.state::text, {fragment:reason_key} AS reason_key, d.last_error AS reason,
    max(d.last_status) AS status, count(*) AS count, min(d.owed_since) AS oldest, min(d.next_attempt_at) AS next_attempt_at,
    (sum(count(*)) OVER ())::bigint AS seen
FROM instances i CROSS JOIN LATERAL (SELECT * FROM deliveries WHERE instance_id = i.id OFFSET 0) AS d
WHERE i.study_instance_uid = %(study)s AND d.state = ANY (%(states)s::delivery_state[]) AND {fragment:wanted_deliveries}
GROUP BY d.route, d.target, d.state, d.last_error ORDER BY count DESC, d.route, d.target, d.state, reason_key LIMIT %(limit)s;

-- name: count
-- How many there are with an id of at most `until`, by state. Unsettled, cancelled and delivered ones are read apart, because
-- the first two have indexes.
SELECT d.state::text, count(*) FROM deliveries d
WHERE d.state = ANY (%(states)s::delivery_state[]) AND d.state IN ('collecting', 'pending', 'in_flight', 'dead')
    AND d.id <= %(until)s AND {fragment:wanted_deliveries} GROUP BY d.state
UNION ALL
SELECT d.state::text, count(*) FROM deliveries d
WHERE d.state = ANY (%(states)s::delivery_state[]) AND d.state = 'cancelled'
    AND d.id <= %(until)s AND {fragment:wanted_deliveries} GROUP BY d.state
UNION ALL
SELECT d.state::text, count(*) FROM deliveries d
WHERE 'delivered' = ANY (%(states)s::delivery_state[]) AND d.state = 'delivered'
    AND d.id <= %(until)s AND {fragment:wanted_deliveries} GROUP BY d.state;

-- name: count_of_study
SELECT d.state::text, count(*) FROM instances i
CROSS JOIN LATERAL (SELECT * FROM deliveries WHERE instance_id = i.id OFFSET 0) AS d
WHERE i.study_instance_uid = %(study)s AND d.state = ANY (%(states)s::delivery_state[]) AND d.id <= %(until)s
    AND {fragment:wanted_deliveries}
GROUP BY d.state;

-- name: slice
-- The next ids, the oldest first, up to `until`.
SELECT d.id FROM deliveries d
WHERE d.id > %(after)s AND d.id <= %(until)s AND d.state = ANY (%(states)s::delivery_state[])
    AND {fragment:wanted_deliveries}
ORDER BY d.id LIMIT %(limit)s;

-- name: slice_of_study
SELECT d.id FROM instances i
CROSS JOIN LATERAL (SELECT * FROM deliveries WHERE instance_id = i.id OFFSET 0) AS d
WHERE i.study_instance_uid = %(study)s AND d.id > %(after)s AND d.id <= %(until)s
    AND d.state = ANY (%(states)s::delivery_state[]) AND {fragment:wanted_deliveries}
ORDER BY d.id LIMIT %(limit)s;

-- name: targets
-- The targets that have unsettled deliveries.
WITH RECURSIVE {fragment:owed_targets}
SELECT route::text, target FROM owed_targets;
