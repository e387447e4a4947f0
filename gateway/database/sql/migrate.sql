-- name: lock
-- One process migrates. The others wait here, and then find nothing to do.
SELECT pg_advisory_lock(hashtextextended('mini_pacs.migrate', 0));

-- name: has_table
SELECT to_regclass('public.schema_migrations') IS NOT NULL;

-- name: create_table
CREATE TABLE IF NOT EXISTS public.schema_migrations (
    version text PRIMARY KEY,
    digest text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: say_what_breaks
-- Version 0.1.0 created the table without this column; its migrations were additive.
ALTER TABLE public.schema_migrations ADD COLUMN IF NOT EXISTS additive boolean NOT NULL DEFAULT true;

-- name: applied
-- Reads `additive` also from a table that version 0.1.0 created without that column.
SELECT version, digest, coalesce((to_jsonb(m) ->> 'additive')::boolean, true) AS additive
FROM public.schema_migrations AS m ORDER BY version;

-- name: record
INSERT INTO public.schema_migrations (version, digest, additive)
VALUES (%(version)s, %(digest)s, %(additive)s);
