-- Counters and their minutes. Totals never fall, so nothing here deletes from `counters`.

-- name: add
-- See functions/add_counts.sql.
SELECT add_counts(%(names)s::text[], %(labels)s::jsonb[], %(amounts)s::float8[], %(minutes)s::timestamptz[]);

-- name: totals
SELECT name, labels, sum(total) AS total FROM counters
WHERE %(names)s::text[] IS NULL OR name = ANY (%(names)s::text[])
GROUP BY name, labels ORDER BY name, labels;

-- name: recent
-- What was added in the minutes that began within the window.
SELECT name, labels, sum(amount) AS total FROM counter_minutes
WHERE minute > now() - %(window)s::interval AND name = ANY (%(names)s::text[])
GROUP BY name, labels ORDER BY name, labels;

-- name: by_minute
SELECT minute, labels, sum(amount) AS amount FROM counter_minutes
WHERE minute > now() - %(window)s::interval AND name = %(name)s
GROUP BY minute, labels ORDER BY minute, labels;

-- name: forget
DELETE FROM counter_minutes WHERE ctid IN (
    SELECT ctid FROM counter_minutes WHERE minute < now() - %(kept)s::interval LIMIT %(limit)s);
