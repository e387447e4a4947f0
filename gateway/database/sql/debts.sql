-- The deliveries of targets that config.yaml does not have any more. The PACS is always a target: with another AE title it
-- keeps its debts.

-- name: owed
-- Each target with unsettled deliveries that is not one of `kept` ("route:name"). The recursion reads one entry of the index
-- per target, so a backlog of a target that is kept is not read.
WITH RECURSIVE targets AS (
    (SELECT d.route, d.target FROM deliveries d WHERE d.state IN ('collecting', 'pending', 'in_flight', 'dead')
     ORDER BY d.route, d.target LIMIT 1)
    UNION ALL
    SELECT n.route, n.target FROM targets t CROSS JOIN LATERAL (
        SELECT d.route, d.target FROM deliveries d WHERE d.state IN ('collecting', 'pending', 'in_flight', 'dead')
            AND (d.route, d.target) > (t.route, t.target)
        ORDER BY d.route, d.target LIMIT 1) AS n
)
SELECT t.route::text, t.target AS name, c.pending, c.in_flight
FROM targets t CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE NOT s.is_sent) AS pending, count(*) FILTER (WHERE s.is_sent) AS in_flight
    FROM deliveries d CROSS JOIN LATERAL (
        SELECT d.state = 'in_flight' OR (d.state = 'collecting' AND EXISTS (
            SELECT FROM units u WHERE u.id = d.unit_id AND u.state = 'sending')) AS is_sent) AS s
    WHERE d.route = t.route AND d.target = t.target AND d.state IN ('collecting', 'pending', 'in_flight')) AS c
WHERE t.route <> 'pacs' AND NOT t.route::text || ':' || t.target = ANY (%(kept)s::text[]) AND c.pending + c.in_flight > 0
ORDER BY t.route, t.target;

-- name: release
-- collecting -> cancelled, without a unit, for what is not being sent; the caller moves it to another target, else it stays
-- cancelled. Returns the deliveries.
UPDATE deliveries d SET state = 'cancelled', unit_id = NULL, next_attempt_at = NULL, message_id = NULL, settled_at = now(),
    settled_by = %(by)s
WHERE d.state = 'collecting' AND d.route = %(route)s::route AND d.target = %(name)s
    AND NOT EXISTS (SELECT FROM units u WHERE u.id = d.unit_id AND u.state = 'sending')
RETURNING d.id AS delivery_id, d.instance_id;

-- name: move_released
-- cancelled -> pending, owed to another target, for deliveries that `release` returned in this transaction. What the other
-- target gets anyway is left out.
UPDATE deliveries d SET state = 'pending', route = %(to_route)s::route, target = %(to_name)s, destination = NULL,
    settled_at = NULL, settled_by = NULL, next_attempt_at = now(), message_id = dramatiq.send(
        queue_of(%(to_route)s::route, %(to_name)s), forward_actor(%(to_route)s::route), jsonb_build_array(d.id), d.priority,
        now(), d.id)
WHERE d.id = ANY (%(ids)s::bigint[]) AND d.state = 'cancelled'
    AND NOT EXISTS (SELECT FROM deliveries o
        WHERE o.instance_id = d.instance_id AND o.route = %(to_route)s::route AND o.target = %(to_name)s)
RETURNING d.id;

-- name: join_units
-- pending -> collecting, if the target gets whole series or studies (functions/join_unit.sql).
SELECT count(join_unit(g.application, g.study, g.uid, g.ids, true)::text) FROM (
    SELECT a.application, i.study_instance_uid AS study,
        CASE a.unit WHEN 'study' THEN i.study_instance_uid ELSE i.series_instance_uid END AS uid,
        array_agg(d.id ORDER BY d.id) AS ids
    FROM deliveries d
    JOIN application_units a ON a.application = d.target
    JOIN instances i ON i.id = d.instance_id
    WHERE d.id = ANY (%(ids)s::bigint[]) AND d.route = 'workers' AND d.state = 'pending'
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3) AS g;

-- name: move
-- pending -> pending, owed to another target, due now with a new message. An instance that the other target gets anyway
-- is left out.
UPDATE deliveries d SET route = %(to_route)s::route, target = %(to_name)s, destination = NULL, waits_for = NULL, parked_for = NULL,
    next_attempt_at = now(), message_id = dramatiq.send(
        queue_of(%(to_route)s::route, %(to_name)s), forward_actor(%(to_route)s::route), jsonb_build_array(d.id), d.priority,
        now(), d.id)
WHERE d.state = 'pending' AND d.route = %(route)s::route AND d.target = %(name)s
    AND NOT EXISTS (SELECT FROM deliveries o
        WHERE o.instance_id = d.instance_id AND o.route = %(to_route)s::route AND o.target = %(to_name)s)
RETURNING d.id;

-- name: drop_messages
-- Delete the messages of deliveries that a removed target is not owed any more: nobody consumes its queue after a restart.
DELETE FROM dramatiq.queue q
WHERE q.queue_name = queue_of(%(route)s::route, %(name)s) AND q.state = 'queued' AND q.delivery_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM deliveries d WHERE d.id = q.delivery_id AND d.route = %(route)s::route
        AND d.target = %(name)s AND d.state IN ('collecting', 'pending', 'in_flight'));
