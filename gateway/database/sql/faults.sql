-- name: active
SELECT name, value, stage FROM faults WHERE until IS NULL OR until > now();

-- name: inject
-- Insert a fault, or change the one of that name.
INSERT INTO faults (name, value, stage, until, injected_by)
VALUES (%(name)s, %(value)s, %(stage)s, now() + %(duration)s, %(by)s)
ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value, stage = EXCLUDED.stage, until = EXCLUDED.until,
    injected_at = now(), injected_by = EXCLUDED.injected_by;

-- name: clear
DELETE FROM faults WHERE %(name)s::text IS NULL OR name = %(name)s RETURNING name;

-- name: list
SELECT name, value, stage, until, injected_at, injected_by FROM faults
WHERE until IS NULL OR until > now() ORDER BY name;
