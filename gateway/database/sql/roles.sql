-- name: describe
-- Whether a role could do more than its grants say: by itself, or by being or becoming the owner of the schema.
SELECT r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls AS is_powerful,
    pg_has_role(r.rolname, t.tableowner, 'MEMBER') AS is_owner
FROM pg_roles r, pg_tables t
WHERE r.rolname = %(role)s AND t.schemaname = 'public' AND t.tablename = 'schema_migrations';

-- name: granted
-- The roles that were given the schema of the queue, and so the rest, beside its owner.
SELECT DISTINCT r.rolname
FROM pg_namespace n
CROSS JOIN LATERAL aclexplode(n.nspacl) AS a
JOIN pg_roles r ON r.oid = a.grantee
WHERE n.nspname = 'dramatiq' AND a.grantee <> n.nspowner
ORDER BY r.rolname;

-- name: privileges
-- Statements that give a role what the processes need, object by object, and take back whatever else it had on them.
-- No DELETE where rows go by a foreign key: that is done as the owner. VACUUM of the queue by the sweep has a
-- privilege of its own since PostgreSQL 17; before, it is skipped with a warning, and autovacuum does it alone.
SELECT format('REVOKE ALL ON %%1$s FROM %%2$I; GRANT %%3$s ON %%1$s TO %%2$I', object, %(role)s::text, privileges)
FROM (VALUES
    ('SCHEMA public', 'USAGE'),
    ('SCHEMA dramatiq', 'USAGE'),
    ('TABLE public.schema_migrations', 'SELECT'),
    ('TABLE public.instances', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE public.deliveries', 'SELECT, INSERT, UPDATE'),
    ('TABLE public.attempts', 'SELECT, INSERT'),
    ('TABLE public.expected_results', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE public.result_sources', 'SELECT, INSERT'),
    ('TABLE public.destinations', 'SELECT, INSERT, UPDATE'),
    ('TABLE public.suspects', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE public.faults', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE public.sweeps', 'SELECT, INSERT, UPDATE'),
    -- a batch of receptions, and a reception, draw from these by hand
    ('SEQUENCE public.instances_id_seq', 'USAGE'),
    ('SEQUENCE public.deliveries_id_seq', 'USAGE'),
    ('SEQUENCE public.worker_turn', 'USAGE'),
    ('SEQUENCE public.study_numbers', 'USAGE'),
    ('TABLE dramatiq.queue', 'SELECT, INSERT, UPDATE, DELETE'
        || CASE WHEN current_setting('server_version_num')::integer >= 170000 THEN ', MAINTAIN' ELSE '' END),
    ('TABLE dramatiq.consumers', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE dramatiq.rates', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE dramatiq.live', 'SELECT')
) AS needed (object, privileges);
