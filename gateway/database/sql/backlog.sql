-- How many deliveries waited for each target, minute by minute, for the last two days.

-- name: note
INSERT INTO backlog_minutes AS b (minute, target, waiting, dead)
SELECT date_trunc('minute', now()), n.target, n.waiting, n.dead
FROM unnest(%(targets)s::text[], %(waiting)s::bigint[], %(dead)s::bigint[]) AS n (target, waiting, dead)
ON CONFLICT ON CONSTRAINT backlog_minutes_pkey DO UPDATE SET waiting = EXCLUDED.waiting, dead = EXCLUDED.dead;

-- name: forget
DELETE FROM backlog_minutes WHERE minute < now() - %(kept)s::interval;

-- name: history
-- In steps of `step`: the highest count within each.
SELECT extract(epoch FROM date_bin(%(step)s::interval, minute, 'epoch'))::float8 AS at, target, max(waiting) AS waiting
FROM backlog_minutes WHERE minute > now() - %(window)s::interval
GROUP BY 1, 2 ORDER BY 1, 2 LIMIT %(limit)s;
