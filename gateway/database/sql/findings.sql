-- The findings that are open, and those that were closed lately.

-- name: record
-- Open new findings, refresh those that remain, close those that are gone. A finding that is seen again keeps its opened_at.
WITH given AS (
    SELECT * FROM unnest(%(keys)s::text[], %(severities)s::text[], %(whats)s::text[], %(means)s::text[], %(remedies)s::text[],
        %(holds)s::text[], %(since)s::timestamptz[]) AS n (key, severity, what, means, remedy, holds_back, since)
), closed AS (
    UPDATE findings f SET closed_at = now() WHERE f.closed_at IS NULL AND NOT f.key = ANY (%(keys)s::text[]) RETURNING f.id
), kept AS (
    INSERT INTO findings AS f (key, severity, what, means, remedy, holds_back, opened_at)
    SELECT key, severity, what, means, remedy, holds_back, coalesce(since, now()) FROM given
    ON CONFLICT (key) WHERE closed_at IS NULL DO UPDATE SET severity = EXCLUDED.severity, what = EXCLUDED.what,
        means = EXCLUDED.means, remedy = EXCLUDED.remedy, holds_back = EXCLUDED.holds_back, seen_at = now()
    RETURNING f.id, (xmax = 0) AS is_new
)
SELECT (SELECT count(*) FROM kept WHERE is_new) AS opened, (SELECT count(*) FROM closed) AS closed;

-- name: open
SELECT key, severity, what, means, remedy, holds_back, opened_at, closed_at, id FROM findings WHERE closed_at IS NULL
ORDER BY opened_at, id;

-- name: untold
-- Findings that were not reported yet: those that have been open for a while, and reported ones that closed.
SELECT key, severity, what, means, remedy, holds_back, opened_at, closed_at, id FROM findings
WHERE (closed_at IS NULL AND told_open_at IS NULL AND seen_at - opened_at >= %(grace)s
        AND (%(notes)s OR severity = 'problem'))
    OR (closed_at IS NOT NULL AND told_open_at IS NOT NULL AND told_closed_at IS NULL)
ORDER BY severity DESC, opened_at, id LIMIT %(limit)s;

-- name: told
UPDATE findings SET told_open_at = coalesce(told_open_at, now()),
    told_closed_at = CASE WHEN closed_at IS NULL THEN NULL ELSE now() END
WHERE id = ANY (%(ids)s::bigint[]);

-- name: last_told
-- Seconds since the last message; NULL if there was none.
SELECT extract(epoch FROM now() - max(greatest(told_open_at, told_closed_at)))::float8 FROM findings;

-- name: has_message
-- Whether a message of that actor waits or runs already.
SELECT EXISTS (SELECT FROM dramatiq.queue WHERE queue_name = %(queue)s AND state IN ('queued', 'consumed')
    AND message ->> 'actor_name' = %(actor)s);

-- name: note_endpoint
-- What an endpoint did with a message: `error` is empty if it took it.
INSERT INTO notify_endpoints AS e (endpoint, failing_since, last_error, failures)
SELECT %(endpoint)s, CASE WHEN n.error IS NULL THEN NULL ELSE now() END, n.error, (n.error IS NOT NULL)::integer
FROM (SELECT nullif(%(error)s, '') AS error) AS n
ON CONFLICT (endpoint) DO UPDATE SET last_error = EXCLUDED.last_error,
    failing_since = CASE WHEN EXCLUDED.last_error IS NULL THEN NULL ELSE coalesce(e.failing_since, now()) END,
    failures = CASE WHEN EXCLUDED.last_error IS NULL THEN 0 ELSE e.failures + 1 END;

-- name: failing_endpoints
SELECT endpoint, failing_since, last_error, failures FROM notify_endpoints WHERE failing_since IS NOT NULL ORDER BY endpoint;

-- name: forget
DELETE FROM findings WHERE closed_at < now() - %(kept)s::interval;
