-- The processes of the edge. No delivery depends on these rows. They are shown, and `mini-pacs config reload` asks
-- every living process.

-- name: now
SELECT clock_timestamp();

-- name: beat
-- Write the row of a process. `beat_age` is greater than 0 where another process writes it: that of the parent of the
-- receivers.
INSERT INTO processes AS p (id, kind, serves, host, pid, os_user, version, started_at, beat_at, server_process, server_started_at,
    consumer_id, configuration_digest, restart_for, spool_name, spool_epoch, spool_problem, clock_offset_ms, figures)
VALUES (%(id)s::uuid, %(kind)s, %(serves)s, %(host)s, %(pid)s, %(os_user)s, %(version)s,
    clock_timestamp() - %(age)s::interval, clock_timestamp() - %(beat_age)s::interval, pg_backend_pid(),
    (SELECT a.backend_start FROM pg_stat_activity AS a WHERE a.pid = pg_backend_pid()), %(consumer_id)s,
    %(configuration_digest)s, %(restart_for)s::text[], %(spool_name)s::uuid, %(spool_epoch)s, %(spool_problem)s,
    %(clock_offset_ms)s, %(figures)s::jsonb)
ON CONFLICT (id) DO UPDATE SET beat_at = greatest(p.beat_at, EXCLUDED.beat_at), server_process = EXCLUDED.server_process,
    server_started_at = EXCLUDED.server_started_at,
    serves = EXCLUDED.serves, consumer_id = EXCLUDED.consumer_id, configuration_digest = EXCLUDED.configuration_digest,
    restart_for = EXCLUDED.restart_for, spool_name = EXCLUDED.spool_name, spool_epoch = EXCLUDED.spool_epoch,
    spool_problem = EXCLUDED.spool_problem, clock_offset_ms = EXCLUDED.clock_offset_ms,
    figures = EXCLUDED.figures
RETURNING clock_timestamp();

-- name: answer
-- Say whether this process can take a proposed version of the configuration: `answer` is NULL if it can.
UPDATE processes SET answered = %(version)s, answer = %(answer)s WHERE id = %(id)s::uuid;

-- name: are_behind
-- Whether a living process uses another configuration.
SELECT EXISTS (SELECT FROM processes
    WHERE configuration_digest <> %(digest)s AND beat_at > now() - %(silence)s::interval);

-- name: remove
DELETE FROM processes WHERE id = ANY (%(ids)s::uuid[]);

-- name: forget_dead
-- Delete the rows of processes that are silent and have no connection. A frozen process has one, so its row stays.
DELETE FROM processes AS p
WHERE p.beat_at < now() - %(silence)s::interval
    AND NOT EXISTS (SELECT FROM pg_stat_activity AS a WHERE {fragment:connection_of_process});

-- name: all
-- `connected`: PostgreSQL still has the connection that wrote the row.
SELECT p.id::text, p.kind, p.serves, p.host, p.pid, p.os_user, p.version, p.started_at, p.beat_at,
    greatest(extract(epoch FROM clock_timestamp() - p.beat_at), 0)::float8 AS silent_seconds,
    EXISTS (SELECT FROM pg_stat_activity AS a
        WHERE {fragment:connection_of_process}) AS connected,
    p.consumer_id, p.configuration_digest, p.restart_for, p.answered, p.answer, p.spool_name::text, p.spool_epoch,
    p.spool_problem, p.clock_offset_ms
FROM processes AS p
ORDER BY p.kind, p.host, p.serves, p.pid;
