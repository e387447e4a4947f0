-- The sends that are under way, and how soon peers answered lately. Both statements read a limited number of rows.

-- name: under_way
-- The sends of living processes. The lease begins with the claim and again at each renewal, every third of the lease while
-- bytes are sent; so lease_until minus the lease is the last sign of progress that the row has.
WITH RECURSIVE {fragment:owed_targets}
SELECT d.destination AS ae_title, d.lease_until - %(lease)s AS since, i.data_set_size AS bytes
FROM owed_targets AS r
CROSS JOIN LATERAL (
    SELECT * FROM deliveries WHERE route = r.route AND target = r.target AND state = 'in_flight' LIMIT %(limit)s) AS d
JOIN dramatiq.live ON live.id = d.claimed_by
JOIN instances i ON i.id = d.instance_id
WHERE d.destination IS NOT NULL
ORDER BY since;

-- name: answers
-- Of the last attempts of all peers: the time that 99 of 100 delivered ones took, and the end of the last one.
SELECT a.destination AS ae_title, max(a.ended_at) AS last_at,
    percentile_disc(0.99) WITHIN GROUP (ORDER BY a.duration_ms) / 1000 AS usual_seconds
FROM (SELECT * FROM attempts ORDER BY id DESC LIMIT %(attempts)s) AS a
WHERE a.outcome = 'delivered'
GROUP BY a.destination ORDER BY a.destination;
