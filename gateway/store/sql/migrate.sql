-- name: lock
-- One process migrates; the others wait here and then find nothing to do.
SELECT pg_advisory_lock(hashtextextended('mini_pacs.migrate', 0));

-- name: has_table
SELECT to_regclass('public.schema_migrations') IS NOT NULL;

-- name: create_table
CREATE TABLE IF NOT EXISTS public.schema_migrations (
    version text PRIMARY KEY,
    digest text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: applied
SELECT version, digest FROM public.schema_migrations;

-- name: record
INSERT INTO public.schema_migrations (version, digest) VALUES (%(version)s, %(digest)s);
