-- name: known
-- The spool that this database belongs to, and whether any instance is said to be in it.
SELECT (SELECT s.id FROM spool s)::text, EXISTS (SELECT FROM instances);

-- name: know
-- Whoever is first.
INSERT INTO spool (id) VALUES (%(id)s::uuid) ON CONFLICT DO NOTHING;
