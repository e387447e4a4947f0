-- name: configure
-- What config.yaml names now; breaker, pause and turn of a known peer are kept.
INSERT INTO destinations AS d (ae_title, route, max_outstanding) VALUES (%(ae_title)s, %(route)s::route, %(max_outstanding)s)
ON CONFLICT (ae_title) DO UPDATE SET route = EXCLUDED.route, max_outstanding = EXCLUDED.max_outstanding, configured = true
WHERE (d.route, d.max_outstanding, d.configured) IS DISTINCT FROM (EXCLUDED.route, EXCLUDED.max_outstanding, true);

-- name: forget_others
UPDATE destinations SET configured = false WHERE configured AND NOT ae_title = ANY (%(ae_titles)s::text[]);

-- name: note_well
-- Ends a row of failures, and closes the breaker where it is open. No row, and no lock: nothing to end.
UPDATE destinations d SET breaker = 'closed', failures_in_row = 0, failed_instance_ids = '{}', reason = NULL,
    next_probe_at = NULL, probe_by_store = false, changed_at = now()
FROM (SELECT ae_title, breaker AS before FROM destinations
      WHERE ae_title = %(ae_title)s AND (breaker = 'open' OR failures_in_row > 0) FOR UPDATE) AS old
WHERE d.ae_title = old.ae_title
RETURNING old.before::text;

-- name: note_failure
-- One more instance in a row that failed, counted once each; the breaker opens at the threshold, or at once.
-- Opening writes the message of the first probe, in this transaction.
WITH old AS (
    SELECT ae_title, breaker, cardinality(ids) AS n, ids FROM (
        SELECT ae_title, breaker, CASE WHEN %(instance_id)s::bigint = ANY (failed_instance_ids)
            OR cardinality(failed_instance_ids) >= %(threshold)s THEN failed_instance_ids
            ELSE failed_instance_ids || %(instance_id)s::bigint END AS ids
        FROM destinations WHERE ae_title = %(ae_title)s FOR UPDATE) AS counted)
UPDATE destinations d SET
    failures_in_row = old.n, failed_instance_ids = old.ids, reason = %(reason)s,
    breaker = CASE WHEN %(at_once)s OR old.n >= %(threshold)s THEN 'open'::breaker_state ELSE d.breaker END,
    probe_by_store = %(probe_by_store)s,
    changed_at = CASE WHEN old.breaker = 'closed' AND (%(at_once)s OR old.n >= %(threshold)s) THEN now() ELSE d.changed_at END,
    next_probe_at = CASE WHEN old.breaker = 'closed' AND (%(at_once)s OR old.n >= %(threshold)s) THEN now() + %(probe_wait)s ELSE d.next_probe_at END
FROM old WHERE d.ae_title = old.ae_title
RETURNING old.breaker::text, d.breaker::text;

-- name: send_probe
-- The message of the next probe. One chain per peer: only who finds its time come may write the next, and
-- does so before it probes, so that a death in the middle does not end the chain. A pause ends it: nothing is
-- sent to a peer that is paused, and resume closes the breaker.
UPDATE destinations SET next_probe_at = now() + %(wait)s
WHERE ae_title = %(ae_title)s AND breaker = 'open' AND NOT paused AND (%(first)s OR next_probe_at <= now() + interval '0.5 seconds')
RETURNING probe_by_store,
    dramatiq.send(%(queue)s, %(actor_name)s, jsonb_build_array(ae_title), %(priority)s, now() + %(wait)s);

-- name: half_open
-- open -> closed, one failure below the threshold: the next instance is the probe.
UPDATE destinations SET breaker = 'closed', failures_in_row = %(threshold)s - 1,
    failed_instance_ids = array_fill(0::bigint, ARRAY[%(threshold)s - 1]), next_probe_at = NULL, changed_at = now()
WHERE ae_title = %(ae_title)s AND breaker = 'open' AND NOT paused RETURNING ae_title;

-- name: pause
UPDATE destinations SET paused = true, paused_by = %(by)s, changed_at = now()
WHERE ae_title = %(ae_title)s AND configured AND NOT paused RETURNING ae_title;

-- name: resume
-- Ends a pause, and closes an open breaker: the operator knows that the peer is back.
UPDATE destinations SET paused = false, paused_by = NULL, breaker = 'closed', failures_in_row = 0,
    failed_instance_ids = '{}', reason = NULL, next_probe_at = NULL, probe_by_store = false, changed_at = now()
WHERE ae_title = %(ae_title)s AND configured AND (paused OR breaker = 'open') RETURNING route::text;

-- name: all
SELECT d.ae_title, d.route::text, d.breaker::text, d.probe_by_store, d.paused, d.paused_by, d.failures_in_row,
    d.reason, d.changed_at, d.next_probe_at, d.max_outstanding,
    (SELECT count(*) FROM expected_results e WHERE e.worker = d.ae_title AND e.state = 'owed')
FROM destinations d WHERE d.configured ORDER BY d.route, d.ae_title;

-- name: overdue_probes
-- Breakers whose probe is long past its time: its message was lost with a dead process, or never written.
SELECT ae_title, route::text FROM destinations
WHERE configured AND breaker = 'open' AND NOT paused AND next_probe_at < now() - %(grace)s;
