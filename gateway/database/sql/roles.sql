-- name: describe
-- Whether a role has powers beyond its grants: by itself, or because it is or can become the owner of the schema.
SELECT r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls AS is_powerful,
    pg_has_role(r.rolname, t.tableowner, 'MEMBER') AS is_owner
FROM pg_roles r, pg_tables t
WHERE r.rolname = %(role)s AND t.schemaname = 'public' AND t.tablename = 'schema_migrations';

-- name: granted
-- The roles, without the owner, that have privileges on the schema of the queue. `privileges` gave them all the others,
-- too. `console`: it is the role of the console, which may read the accounts.
SELECT DISTINCT r.rolname AS role, has_table_privilege(r.oid, 'public.console_users', 'INSERT') AS console
FROM pg_namespace n
CROSS JOIN LATERAL aclexplode(n.nspacl) AS a
JOIN pg_roles r ON r.oid = a.grantee
WHERE n.nspname = 'dramatiq' AND a.grantee <> n.nspowner
ORDER BY role;

-- name: privileges
-- Statements that give a role the privileges that the processes need, object by object, and take back all others. No DELETE
-- where a foreign key deletes rows: PostgreSQL does that as the owner. Since PostgreSQL 17 VACUUM of the queue by the sweep
-- has a privilege of its own; before, it is skipped with a warning, and only autovacuum does it. Only the role of the console
-- may read accounts and sessions.
SELECT format(CASE WHEN privileges IS NULL THEN 'REVOKE ALL ON %%1$s FROM %%2$I'
    ELSE 'REVOKE ALL ON %%1$s FROM %%2$I; GRANT %%3$s ON %%1$s TO %%2$I' END, object, %(role)s::text, privileges)
FROM (VALUES
    ('SCHEMA public', 'USAGE'),
    ('SCHEMA dramatiq', 'USAGE'),
    ('TABLE public.schema_migrations', 'SELECT'),
    ('TABLE public.instances', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE public.rule_versions', 'SELECT, INSERT'),
    ('TABLE public.decisions', 'SELECT, INSERT'),
    ('TABLE public.deliveries', 'SELECT, INSERT, UPDATE'),
    ('TABLE public.attempts', 'SELECT, INSERT'),
    ('TABLE public.expected_results', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE public.result_sources', 'SELECT, INSERT'),
    ('TABLE public.application_units', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE public.units', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE public.unit_dispatches', 'SELECT, INSERT, UPDATE'),
    ('TABLE public.repeats', 'SELECT, INSERT, DELETE'),
    ('TABLE public.unmatched_references', 'SELECT, INSERT, DELETE'),
    ('TABLE public.spool', 'SELECT, INSERT, UPDATE'),
    ('TABLE public.destinations', 'SELECT, INSERT, UPDATE'),
    ('TABLE public.application_workers', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE public.accepted_syntaxes', 'SELECT, INSERT, UPDATE'),
    ('TABLE public.suspects', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE public.findings', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE public.notify_endpoints', 'SELECT, INSERT, UPDATE'),
    ('TABLE public.faults', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE public.processes', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE public.configurations', 'SELECT, INSERT, UPDATE'),
    ('TABLE public.sweeps', 'SELECT, INSERT, UPDATE'),
    ('TABLE public.sweep_cursors', 'SELECT, INSERT, UPDATE'),
    ('TABLE public.counters', 'SELECT, INSERT, UPDATE'),
    ('TABLE public.counter_minutes', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE public.backlog_minutes', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE public.refusals', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE public.refused_instances', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE public.history_studies', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE public.history_series', 'SELECT, INSERT, UPDATE'),
    ('TABLE public.history_instances', 'SELECT, INSERT'),
    ('TABLE public.search_hashes', 'SELECT, INSERT, DELETE'),
    ('TABLE public.counted_receptions', 'SELECT, INSERT, DELETE'),
    ('TABLE public.counted_attempts', 'SELECT, INSERT, DELETE'),
    ('TABLE public.counted_results', 'SELECT, INSERT, DELETE'),
    ('TABLE public.counted_cancellations', 'SELECT, INSERT, DELETE'),
    ('TABLE public.last_successes', 'SELECT, INSERT, UPDATE'),
    -- nobody but the owner of the schema could change or delete these rows, and a trigger refuses that, too
    ('TABLE public.activity', 'SELECT, INSERT'),
    ('TABLE public.console_users', CASE WHEN %(console)s THEN 'SELECT, INSERT, UPDATE, DELETE' END),
    ('TABLE public.console_sessions', CASE WHEN %(console)s THEN 'SELECT, INSERT, UPDATE, DELETE' END),
    ('TABLE public.console_failures', CASE WHEN %(console)s THEN 'SELECT, INSERT, UPDATE, DELETE' END),
    ('TABLE public.console_actions', CASE WHEN %(console)s THEN 'SELECT, INSERT, UPDATE' END),
    -- the functions that receive instances call nextval on these
    ('SEQUENCE public.instances_id_seq', 'USAGE'),
    ('SEQUENCE public.deliveries_id_seq', 'USAGE'),
    ('SEQUENCE public.worker_turn', 'USAGE'),
    ('SEQUENCE public.configurations_version_seq', 'USAGE'),
    ('SEQUENCE public.study_numbers', 'USAGE'),
    ('TABLE dramatiq.queue', 'SELECT, INSERT, UPDATE, DELETE'
        || CASE WHEN current_setting('server_version_num')::integer >= 170000 THEN ', MAINTAIN' ELSE '' END),
    ('TABLE dramatiq.consumers', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE dramatiq.rates', 'SELECT, INSERT, UPDATE, DELETE'),
    ('TABLE dramatiq.live', 'SELECT')
) AS needed (object, privileges);
