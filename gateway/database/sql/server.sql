-- The state of PostgreSQL itself. No statement here reads a table of the edge, so a lock on such a table stops none of them.

-- name: server
SELECT current_database() AS database, current_user AS "user", now(), clock_timestamp() AS clock,
    pg_is_in_recovery() AS is_standby, current_setting('default_transaction_read_only') = 'on' AS is_read_only,
    current_setting('max_connections')::integer AS max_connections,
    current_setting('superuser_reserved_connections')::integer
        + coalesce(current_setting('reserved_connections', true), '0')::integer AS reserved,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
    (SELECT d.datconnlimit FROM pg_database d WHERE d.datname = current_database()) AS database_limit,
    (SELECT r.rolconnlimit FROM pg_roles r WHERE r.rolname = current_user) AS role_limit,
    (SELECT count(*) FROM pg_stat_activity a WHERE a.datname = current_database() AND a.backend_type = 'client backend') AS in_database,
    (SELECT count(*) FROM pg_stat_activity a WHERE a.usename = current_user AND a.backend_type = 'client backend') AS of_role,
    current_setting('synchronous_standby_names') AS standby_names,
    current_setting('synchronous_commit') NOT IN ('off', 'local') AS waits_for_standby,
    (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) AS standbys;

-- name: blockers
-- Sessions that let others wait for a lock, without those that wait themselves: what waits for those waits for the first one, too.
-- pg_locks shows to every role who waits; pg_stat_activity hides the state of other roles' sessions. The class of a statement is its
-- first word: the rest may quote a value.
WITH RECURSIVE waiting AS (
    SELECT w.pid, b.blocker
    FROM (SELECT DISTINCT l.pid FROM pg_locks l WHERE NOT l.granted) AS w
    CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS b (blocker)
), behind AS (
    SELECT pid, blocker FROM waiting
    UNION
    SELECT behind.pid, waiting.blocker FROM behind JOIN waiting ON waiting.pid = behind.blocker
)
SELECT a.pid, coalesce(a.application_name, '') AS application, coalesce(a.usename::text, '') AS "user",
    coalesce(host(a.client_addr), 'a local socket') AS address, coalesce(a.state, '') AS state,
    coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float8 AS seconds,
    upper(coalesce(substring(a.query FROM '^\s*(\w+)'), '')) AS statement,
    count(DISTINCT w.pid) AS waiting,
    coalesce(max(extract(epoch FROM clock_timestamp() - w.query_start)), 0)::float8 AS longest,
    string_agg(DISTINCT w.application_name, ', ') AS applications
FROM behind JOIN pg_stat_activity a ON a.pid = behind.blocker JOIN pg_stat_activity w ON w.pid = behind.pid
WHERE w.datname = current_database() AND NOT EXISTS (SELECT FROM waiting other WHERE other.pid = a.pid)
GROUP BY a.pid, a.application_name, a.usename, a.client_addr, a.state, a.xact_start, a.query
ORDER BY waiting DESC, a.pid LIMIT 20;

-- name: lockers
-- Sessions that hold a lock on a table of the edge that its statements would wait for, and have held it for a while.
SELECT a.pid, coalesce(a.application_name, '') AS application, coalesce(a.usename::text, '') AS "user",
    coalesce(host(a.client_addr), 'a local socket') AS address, coalesce(a.state, '') AS state,
    extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds,
    upper(coalesce(substring(a.query FROM '^\s*(\w+)'), '')) AS statement,
    string_agg(DISTINCT c.relname::text, ', ') AS tables
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid JOIN pg_class c ON c.oid = l.relation
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE l.granted AND l.locktype = 'relation' AND n.nspname IN ('public', 'dramatiq') AND c.relkind = 'r'
    AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    AND l.mode IN ('AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock')
    AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
    AND clock_timestamp() - a.xact_start > %(older)s
GROUP BY a.pid, a.application_name, a.usename, a.client_addr, a.state, a.xact_start, a.query
ORDER BY a.xact_start LIMIT 20;

-- name: idle
-- Transactions that do nothing, and transactions that have been open for long; these keep dead rows from being removed.
SELECT a.pid, coalesce(a.application_name, '') AS application, coalesce(a.usename::text, '') AS "user",
    coalesce(host(a.client_addr), 'a local socket') AS address, coalesce(a.state, '') AS state,
    extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds,
    extract(epoch FROM clock_timestamp() - a.state_change)::float8 AS idle_seconds,
    upper(coalesce(substring(a.query FROM '^\s*(\w+)'), '')) AS statement,
    a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL AS holds_horizon
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend' AND a.xact_start IS NOT NULL
    AND ((a.state LIKE 'idle in transaction%%' AND clock_timestamp() - a.state_change > %(idle)s)
        OR ((a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL) AND clock_timestamp() - a.xact_start > %(open)s))
ORDER BY a.xact_start LIMIT 20;

-- name: users
-- Who uses the connections of the server.
SELECT coalesce(nullif(application_name, ''), 'no name') AS application, usename::text AS "user",
    coalesce(host(client_addr), 'a local socket') AS address, count(*) AS connections
FROM pg_stat_activity WHERE backend_type = 'client backend'
GROUP BY 1, 2, 3 ORDER BY count(*) DESC, 1 LIMIT 5;

-- name: waiting_commits
-- Commits that wait for a synchronous standby.
SELECT count(*) AS count, coalesce(max(extract(epoch FROM clock_timestamp() - query_start)), 0)::float8 AS seconds
FROM pg_stat_activity WHERE wait_event = 'SyncRep';

-- name: prepared
-- Prepared transactions that nobody has ended: they keep their locks also after a restart.
SELECT gid, owner::text AS "user", extract(epoch FROM clock_timestamp() - prepared)::float8 AS seconds
FROM pg_prepared_xacts WHERE database = current_database() AND clock_timestamp() - prepared > %(older)s
ORDER BY prepared LIMIT 20;

-- name: search_path
-- Whether this role finds a table without naming its schema, and which schemas have it.
SELECT current_setting('search_path') AS search_path, to_regclass(%(table)s) IS NOT NULL AS is_found,
    coalesce((SELECT string_agg(n.nspname::text, ', ' ORDER BY n.nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = %(table)s AND c.relkind = 'r' AND has_schema_privilege(n.oid, 'USAGE')), '') AS schemas;

-- name: missing_privileges
-- Tables and schemas of the edge that this role may not use.
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND (n.nspname = 'dramatiq' OR (n.nspname = 'public' AND c.relname = ANY (%(tables)s::text[])))
    AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))
ORDER BY 1;

-- name: begin_write
-- Extend a file of a temporary table, and write to the log, to see whether the disk takes it; rolled back afterwards.
CREATE TEMPORARY TABLE disk_check ON COMMIT DROP AS SELECT repeat(md5(n::text), 100) AS text FROM generate_series(1, 100) AS n;

-- name: data_directory
-- NULL where this role may not see it.
SELECT CASE WHEN pg_has_role('pg_read_all_settings', 'MEMBER') THEN current_setting('data_directory') END;

-- name: sizes
-- Bytes and rows (as estimated) of each table of the edge, for the support bundle.
SELECT n.nspname || '.' || c.relname AS name, pg_total_relation_size(c.oid) AS bytes, c.reltuples::bigint AS estimated_rows
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname IN ('public', 'dramatiq') ORDER BY 1;

-- name: version
SELECT version();
