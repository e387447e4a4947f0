-- Accounts, sessions and long actions of the console.

-- name: users
SELECT name, role, password_hash IS NOT NULL AS has_password, created_at, created_by, used_at,
    coalesce(locked_until > now(), false) AS is_locked
FROM console_users ORDER BY name LIMIT %(limit)s;

-- name: count_users
SELECT count(*) FROM console_users;

-- name: count_admins
-- Lock the admins, so that two transactions cannot remove both of the last two.
SELECT count(*) FROM (SELECT FROM console_users WHERE role = 'admin' FOR UPDATE) AS x;

-- name: lock_users
-- Until the end of the transaction; readers do not wait.
LOCK TABLE console_users IN SHARE ROW EXCLUSIVE MODE;

-- name: add_user
INSERT INTO console_users (name, role, password_hash, created_by)
VALUES (%(name)s, %(role)s, %(password_hash)s, %(by)s) ON CONFLICT DO NOTHING RETURNING name;

-- name: role_of
SELECT role FROM console_users WHERE name = %(name)s;

-- name: roles
SELECT name, role FROM console_users ORDER BY used_at DESC NULLS LAST LIMIT %(limit)s;

-- name: remove_user
DELETE FROM console_users WHERE name = %(name)s RETURNING name;

-- name: set_role
UPDATE console_users SET role = %(role)s WHERE name = %(name)s RETURNING name;

-- name: set_password
UPDATE console_users SET password_hash = %(password_hash)s, failures = 0, locked_until = NULL
WHERE name = %(name)s RETURNING name;

-- name: unlock
UPDATE console_users SET failures = 0, locked_until = NULL WHERE name = %(name)s AND locked_until > now() RETURNING name;

-- name: end_sessions_of
DELETE FROM console_sessions WHERE name = %(name)s;

-- name: login
-- What a sign-in needs of an account; no row if there is none.
SELECT name, role, password_hash, coalesce(locked_until > now(), false) AS is_locked
FROM console_users WHERE name = %(name)s;

-- name: address_is_locked
SELECT EXISTS (SELECT FROM console_failures WHERE address = %(address)s AND locked_until > now());

-- name: note_failure_of_user
-- From `least` failures in a row on, the account is locked: for `first`, and twice as long after each further one. Failures
-- while it is locked do not prolong that.
UPDATE console_users SET failures = failures + 1,
    locked_until = CASE WHEN failures + 1 >= %(least)s
        THEN now() + least(%(first)s::interval * power(2, least(failures + 1 - %(least)s, 20)), %(longest)s::interval) END
WHERE name = %(name)s AND (locked_until IS NULL OR locked_until <= now());

-- name: note_failure_of_address
INSERT INTO console_failures AS f (address, failures, last_at) VALUES (%(address)s, 1, now())
ON CONFLICT ON CONSTRAINT console_failures_pkey DO UPDATE SET
    failures = CASE WHEN f.last_at < now() - %(kept)s::interval THEN 1 ELSE f.failures + 1 END, last_at = now(),
    locked_until = CASE WHEN f.last_at >= now() - %(kept)s::interval AND f.failures + 1 >= %(least)s
        THEN now() + %(longest)s::interval END;

-- name: forget_failures
DELETE FROM console_failures WHERE last_at < now() - %(kept)s::interval;

-- name: note_success
UPDATE console_users SET failures = 0, locked_until = NULL, used_at = now() WHERE name = %(name)s;

-- name: begin_session
INSERT INTO console_sessions (token_hash, name, address) VALUES (%(token_hash)s, %(name)s, %(address)s);

-- name: forget_sessions
DELETE FROM console_sessions WHERE used_at < now() - %(idle)s::interval OR created_at < now() - %(longest)s::interval;

-- name: sessions
-- The accounts of sessions, and how old both of their times are.
SELECT s.token_hash, u.name, u.role, now() - s.used_at AS idle, now() - s.created_at AS age
FROM console_sessions s JOIN console_users u ON u.name = s.name WHERE s.token_hash = ANY(%(token_hashes)s::bytea[]);

-- name: use_sessions
-- Leave out a row that another transaction holds: that one uses or ends the session, and this one must not wait.
UPDATE console_sessions SET used_at = now() WHERE token_hash IN
    (SELECT token_hash FROM console_sessions WHERE token_hash = ANY(%(token_hashes)s::bytea[]) FOR UPDATE SKIP LOCKED);

-- name: end_unused
-- As above.
DELETE FROM console_sessions WHERE token_hash IN
    (SELECT token_hash FROM console_sessions WHERE token_hash = ANY(%(token_hashes)s::bytea[]) FOR UPDATE SKIP LOCKED);

-- name: end_session
DELETE FROM console_sessions WHERE token_hash = %(token_hash)s;

-- name: begin_action
INSERT INTO console_actions (who, address, verb, target, total)
VALUES (%(who)s, %(address)s, %(verb)s, %(target)s, %(total)s) RETURNING id;

-- name: add_to_action
UPDATE console_actions SET done = done + %(count)s, changed_at = now() WHERE id = %(id)s;

-- name: end_action
-- running -> done | stopped | failed
UPDATE console_actions SET state = %(state)s, note = %(note)s, changed_at = now()
WHERE id = %(id)s AND state = 'running';

-- name: stop_running
-- running -> stopped: the console that ran them has ended.
UPDATE console_actions SET state = 'stopped', note = %(note)s, changed_at = now() WHERE state = 'running'
RETURNING id, who, address, verb, target, total, done, state, note, began_at, changed_at;

-- name: actions
SELECT id, who, address, verb, target, total, done, state, note, began_at, changed_at
FROM console_actions
WHERE %(id)s::bigint IS NULL OR id = %(id)s
ORDER BY id DESC LIMIT %(limit)s;
