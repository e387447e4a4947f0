-- The history of config.yaml, and the two steps in which a new version is taken:
--
--   proposed   each process says whether it can take the version
--   taken      all can: each process takes it. One row decides for all
--   refused    a process cannot, or the command ended before

-- name: current
-- The version that processes look at: the one that is proposed, else the last one that was taken. A proposal that the
-- command did not decide is ignored after a while.
SELECT version, state, digest FROM configurations
WHERE state = 'taken' OR (state = 'proposed' AND proposed_at > clock_timestamp() - %(age)s::interval)
ORDER BY version DESC LIMIT 1;

-- name: taken
SELECT version, state, digest, document, difference, proposed_by, proposed_at, decided_at, reason
FROM configurations WHERE state = 'taken' ORDER BY version DESC LIMIT 1;

-- name: history
SELECT version, state, digest, document, difference, proposed_by, proposed_at, decided_at, reason
FROM configurations ORDER BY version DESC LIMIT %(limit)s;

-- name: refuse_old
-- proposed -> refused, where the command that proposed it ended long ago.
UPDATE configurations SET state = 'refused', decided_at = clock_timestamp(), reason = %(reason)s
WHERE state = 'proposed' AND proposed_at < clock_timestamp() - %(age)s::interval;

-- name: propose
-- Returns no row if another version is proposed now.
INSERT INTO configurations (state, digest, document, difference, proposed_by)
VALUES ('proposed', %(digest)s, %(document)s, %(difference)s::text[], %(by)s)
ON CONFLICT (state) WHERE state = 'proposed' DO NOTHING RETURNING version;

-- name: proposed
SELECT version, state, digest, document, difference, proposed_by, proposed_at, decided_at, reason
FROM configurations WHERE state = 'proposed';

-- name: take
-- proposed -> taken. Returns no row if somebody refused it meanwhile.
UPDATE configurations SET state = 'taken', decided_at = clock_timestamp()
WHERE version = %(version)s AND state = 'proposed' RETURNING version;

-- name: refuse
-- proposed -> refused.
UPDATE configurations SET state = 'refused', decided_at = clock_timestamp(), reason = %(reason)s
WHERE version = %(version)s AND state = 'proposed';

-- name: lock_record
-- The receivers start at the same time: one of them records.
SELECT pg_advisory_xact_lock(hashtextextended('record of a configuration', 1));

-- name: record
-- A version that a process took at its start, unless it is the last one.
INSERT INTO configurations (state, digest, document, difference, proposed_by, decided_at)
SELECT 'taken', %(digest)s, %(document)s, %(difference)s::text[], %(by)s, clock_timestamp()
WHERE %(digest)s IS DISTINCT FROM (
    SELECT digest FROM configurations WHERE state = 'taken' ORDER BY version DESC LIMIT 1)
RETURNING version;
