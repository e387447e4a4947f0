-- name: pause
-- Without `lasting` the pause has no end.
UPDATE destinations SET paused = true, paused_by = %(by)s, pause_reason = %(reason)s, paused_until = now() + %(lasting)s::interval,
    changed_at = now()
WHERE ae_title = %(ae_title)s AND configured AND NOT paused RETURNING paused_until;

-- name: change_pause
-- Replace reason and end of a pause, and who made it.
UPDATE destinations SET paused_by = %(by)s, pause_reason = %(reason)s, paused_until = now() + %(lasting)s::interval
WHERE ae_title = %(ae_title)s AND configured AND paused RETURNING paused_until;

-- name: lock_pause
-- The pause of a destination; the row is locked until the transaction ends.
SELECT paused, paused_by, pause_reason, paused_until FROM destinations WHERE ae_title = %(ae_title)s AND configured FOR UPDATE;

-- name: send_end_of_pause
SELECT dramatiq.send(%(queue)s, %(actor_name)s, jsonb_build_array(%(ae_title)s), due => %(due)s);

-- name: end_pause
-- End a pause whose time is over. An open breaker stays open, and is probed again from now on.
UPDATE destinations SET paused = false, paused_by = NULL, pause_reason = NULL, paused_until = NULL, changed_at = now(),
    next_probe_at = CASE WHEN breaker = 'open' THEN now() END
WHERE ae_title = %(ae_title)s AND paused AND paused_until <= now() RETURNING route::text, breaker = 'open' AS probed;

-- name: ended_pauses
-- Pauses whose time is over: the message that ends them was lost, or no process took it yet.
SELECT ae_title FROM destinations WHERE paused AND paused_until <= now();

-- name: resume
-- End a pause and close an open breaker, by an operator who knows that the peer is back.
UPDATE destinations SET paused = false, paused_by = NULL, pause_reason = NULL, paused_until = NULL, breaker = 'closed',
    failures_in_row = 0, failed_instance_ids = '{}', reason = NULL, reason_at = NULL, next_probe_at = NULL, probe_by_store = false, answers = NULL,
    max_outstanding = coalesce(full_outstanding, max_outstanding), full_outstanding = NULL, changed_at = now()
WHERE ae_title = %(ae_title)s AND configured AND (paused OR breaker = 'open' OR full_outstanding IS NOT NULL) RETURNING route::text;
