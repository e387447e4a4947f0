-- name: tables
-- Which tables exist: versions before 0.3.0 have no table spool, and an empty database has none at all.
SELECT to_regclass('public.spool') IS NOT NULL AS has_spool, to_regclass('public.instances') IS NOT NULL AS has_instances;

-- name: marks
SELECT name::text, epoch, seen_at FROM spool;

-- name: has_instances
SELECT EXISTS (SELECT FROM instances);

-- name: sample
-- Files that must be in the spool: of the newest instances that are not delivered everywhere, and of the newest others.
-- It is also asked of a schema that is not migrated yet, so it names no state that is newer than version 0.2.0.
(SELECT DISTINCT i.id AS instance_id, i.study_instance_uid, i.file_name, i.place::text
    FROM deliveries d JOIN instances i ON i.id = d.instance_id
    WHERE d.state IN ('pending', 'in_flight', 'dead') ORDER BY i.id DESC LIMIT %(limit)s)
UNION
(SELECT i.id, i.study_instance_uid, i.file_name, i.place::text FROM instances i ORDER BY i.id DESC LIMIT %(limit)s);

-- name: pair
-- The first process that pairs decides; others read what it wrote.
INSERT INTO spool (name, epoch) VALUES (%(name)s::uuid, %(epoch)s) ON CONFLICT DO NOTHING;

-- name: adopt
-- The database belongs to that spool from now on. Its time mark is not older than that of the spool.
INSERT INTO spool AS s (name, epoch, seen_at)
    VALUES (%(name)s::uuid, %(epoch)s, greatest(clock_timestamp(), %(seen_at)s::timestamptz))
    ON CONFLICT (is_only) DO UPDATE SET name = EXCLUDED.name, epoch = EXCLUDED.epoch,
        seen_at = greatest(EXCLUDED.seen_at, s.seen_at);

-- name: mark
-- The next time mark. It never goes back, whatever the clock does.
UPDATE spool SET seen_at = greatest(seen_at, clock_timestamp())
WHERE name = %(name)s::uuid AND epoch = %(epoch)s RETURNING seen_at;

-- name: begin_epoch
-- Wait until no transaction registers, and let none begin to (see functions/require_spool.sql).
SELECT pg_advisory_xact_lock(hashtextextended('epoch of the spool', 1));

-- name: set_epoch
UPDATE spool SET epoch = %(epoch)s WHERE name = %(name)s::uuid;
