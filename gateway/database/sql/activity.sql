-- The record of what operators did. It is only added to.

-- name: record
INSERT INTO activity (who, via, address, verb, target, count, outcome)
VALUES (%(who)s, %(via)s, %(address)s, %(verb)s, %(target)s, %(count)s, %(outcome)s) RETURNING id;

-- name: page
-- Newest first. `after` is the id of the last row of the previous page. Each condition is off where its parameter is NULL.
SELECT id, at, who, via, address, verb, target, count, outcome FROM activity
WHERE (%(after)s::bigint IS NULL OR id < %(after)s)
    AND (%(who)s::text IS NULL OR who = %(who)s)
    AND (%(verb)s::text IS NULL OR verb = %(verb)s)
ORDER BY id DESC LIMIT %(limit)s;
