-- Who sent how much over the last minute, and the history of the counters for charts.

-- name: senders
-- From the newest instances up to a limit; `covered_seconds` is shorter than the window where the limit is reached.
WITH last AS MATERIALIZED (
    SELECT i.calling_ae_title, i.kind, i.received_at AS owed_since FROM instances i
    WHERE i.received_at > now() - %(window)s::interval ORDER BY i.received_at DESC LIMIT %(limit)s)
SELECT l.calling_ae_title, l.kind::text, count(*) AS count, {fragment:covered_seconds} AS covered_seconds
FROM last AS l GROUP BY l.calling_ae_title, l.kind;

-- name: history
-- What was added to some counters in each step, by one of their labels. A counter without that label has ''.
SELECT extract(epoch FROM date_bin(%(step)s::interval, minute, 'epoch'))::float8 AS at, name,
    coalesce(labels ->> %(label)s, '') AS label, sum(amount) AS amount
FROM counter_minutes
WHERE minute > now() - %(window)s::interval AND name = ANY (%(names)s::text[])
    AND (%(outcome)s::text IS NULL OR labels ->> 'outcome' = %(outcome)s)
GROUP BY 1, 2, 3 ORDER BY 1 LIMIT %(limit)s;
