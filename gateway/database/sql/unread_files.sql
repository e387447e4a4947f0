-- Files of the spool that could not be sent.

-- name: unread
-- Undelivered instances whose last attempt found no file, another one, or one that cannot be read; one row for each of the
-- two outcomes. The last delivery is the example. `copies` are the destinations that took some of these instances.
SELECT last.outcome, count(DISTINCT i.id) AS instances, min(last.ended_at) AS since,
    array_agg(DISTINCT d.target) AS targets,
    array_agg(DISTINCT i.calling_ae_title) AS senders,
    max(d.id) AS delivery_id,
    (array_agg(last.error ORDER BY d.id DESC))[1] AS error,
    (array_agg(i.study_instance_uid ORDER BY d.id DESC))[1] AS study_instance_uid,
    count(DISTINCT i.study_instance_uid) AS studies,
    count(DISTINCT i.id) FILTER (WHERE copy.destination IS NOT NULL) AS copied,
    coalesce(array_agg(DISTINCT copy.destination) FILTER (WHERE copy.destination IS NOT NULL), '{}') AS copies
FROM (
    SELECT DISTINCT a.delivery_id FROM attempts a WHERE a.outcome IN ('lost_file', 'not_read')
    ORDER BY a.delivery_id DESC LIMIT %(limit)s) AS found
JOIN deliveries d ON d.id = found.delivery_id AND d.state IN ('collecting', 'pending', 'in_flight', 'dead')
JOIN instances i ON i.id = d.instance_id
CROSS JOIN LATERAL (
    SELECT a.outcome, a.error, a.ended_at FROM attempts a
    WHERE a.delivery_id = d.id AND NOT a.fenced ORDER BY a.id DESC LIMIT 1) AS last
LEFT JOIN LATERAL (
    SELECT DISTINCT o.destination FROM deliveries o
    WHERE o.instance_id = i.id AND o.state = 'delivered' AND o.destination IS NOT NULL) AS copy ON true
WHERE last.outcome IN ('lost_file', 'not_read')
GROUP BY last.outcome ORDER BY last.outcome;
