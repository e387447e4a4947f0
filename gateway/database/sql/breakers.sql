-- name: note_well
-- Reset the failures, and close the breaker if it is open. If C-STOREs opened it, only the answer to a C-STORE closes it.
-- Returns no row, and locks none, if there is nothing to reset.
UPDATE destinations d SET breaker = 'closed', failures_in_row = 0, failed_instance_ids = '{}', reason = NULL, reason_at = NULL,
    next_probe_at = NULL, probe_by_store = false, answers = NULL,
    max_outstanding = coalesce(d.full_outstanding, d.max_outstanding), full_outstanding = NULL,
    changed_at = CASE WHEN old.before = 'open' OR old.tried THEN now() ELSE d.changed_at END
FROM (SELECT ae_title, breaker AS before, full_outstanding IS NOT NULL AS tried FROM destinations
      WHERE ae_title = %(ae_title)s AND (breaker = 'open' OR failures_in_row > 0)
        AND (%(by_store)s OR NOT probe_by_store) FOR UPDATE) AS old
WHERE d.ae_title = old.ae_title
RETURNING old.before::text;

-- name: note_failure
-- Count one more failed instance, each instance once; open the breaker at the threshold, or at once. The caller then
-- writes the message of the first probe in the same transaction. With siblings_are_one, the instances of a study count as
-- one, as long as the peer took an instance of another study within five minutes. A worker that was tried with one
-- instance and failed again was never available in between, so changed_at stays.
WITH old AS (
    SELECT ae_title, breaker, full_outstanding, cardinality(ids) AS n, ids,
        %(at_once)s OR cardinality(ids) >= %(threshold)s AS opens FROM (
        SELECT ae_title, breaker, full_outstanding, CASE WHEN %(instance_id)s::bigint = ANY (failed_instance_ids)
            OR cardinality(failed_instance_ids) >= %(threshold)s
            OR (%(siblings_are_one)s AND EXISTS (
                SELECT FROM instances i JOIN instances s ON s.id = ANY (failed_instance_ids)
                WHERE i.id = %(instance_id)s AND s.study_instance_uid = i.study_instance_uid
            ) AND EXISTS (
                SELECT FROM (SELECT * FROM attempts ORDER BY id DESC LIMIT 500) AS a
                JOIN deliveries t ON t.id = a.delivery_id JOIN instances o ON o.id = t.instance_id
                JOIN instances i ON i.id = %(instance_id)s AND i.study_instance_uid <> o.study_instance_uid
                WHERE a.destination = ae_title AND a.outcome = 'delivered' AND a.ended_at > now() - interval '5 minutes'))
            THEN failed_instance_ids
            ELSE failed_instance_ids || %(instance_id)s::bigint END AS ids
        FROM destinations WHERE ae_title = %(ae_title)s FOR UPDATE) AS counted)
UPDATE destinations d SET
    failures_in_row = old.n, failed_instance_ids = old.ids, reason = %(reason)s,
    reason_at = CASE WHEN d.reason IS DISTINCT FROM %(reason)s THEN now() ELSE d.reason_at END,
    breaker = CASE WHEN old.opens THEN 'open'::breaker_state ELSE d.breaker END,
    probe_by_store = d.probe_by_store OR %(probe_by_store)s,
    answers = CASE WHEN NOT %(probe_by_store)s THEN NULL ELSE d.answers END,
    max_outstanding = CASE WHEN old.opens THEN coalesce(d.full_outstanding, d.max_outstanding) ELSE d.max_outstanding END,
    full_outstanding = CASE WHEN old.opens THEN NULL ELSE d.full_outstanding END,
    changed_at = CASE WHEN old.breaker = 'closed' AND old.opens AND old.full_outstanding IS NULL THEN now() ELSE d.changed_at END,
    next_probe_at = CASE WHEN old.breaker = 'closed' AND old.opens THEN now() + %(probe_wait)s ELSE d.next_probe_at END
FROM old WHERE d.ae_title = old.ae_title
RETURNING old.breaker::text AS before, d.breaker::text AS after;

-- name: note_answer
-- Record the result of a probe. `answers` is NULL if it failed; `reason` says why. Writes only changed values:
-- otherwise each probe, every five seconds, would leave a dead row version.
UPDATE destinations SET answers = %(answers)s, reason = coalesce(%(reason)s, reason),
    reason_at = CASE WHEN reason IS DISTINCT FROM coalesce(%(reason)s, reason) THEN now() ELSE reason_at END
WHERE ae_title = %(ae_title)s AND breaker = 'open'
    AND (answers, reason) IS DISTINCT FROM (%(answers)s, coalesce(%(reason)s, reason));

-- name: send_probe
-- Write the message of the next probe. Only a process that finds the probe due may do it, so there is one chain per
-- peer. It writes the message before it probes: if it dies in between, the chain continues. A pause ends the chain;
-- resume closes the breaker.
UPDATE destinations SET next_probe_at = now() + %(wait)s
WHERE ae_title = %(ae_title)s AND breaker = 'open' AND NOT paused AND (%(first)s OR next_probe_at <= now() + interval '0.5 seconds')
RETURNING probe_by_store,
    dramatiq.send(%(queue)s, %(actor_name)s, jsonb_build_array(ae_title), %(priority)s, now() + %(wait)s) AS message_id;

-- name: half_open
-- open -> closed, one failure below the threshold, with capacity for one result: the next instance is the probe.
UPDATE destinations d SET breaker = 'closed', failures_in_row = greatest(%(threshold)s - 1, 1),
    failed_instance_ids = array_fill(0::bigint, ARRAY[greatest(%(threshold)s - 1, 1)]), next_probe_at = NULL, answers = %(answers)s,
    full_outstanding = coalesce(d.full_outstanding, d.max_outstanding),
    max_outstanding = 1 + (SELECT count(*) FROM expected_results e WHERE e.worker = d.ae_title AND e.state = 'owed')
        + (SELECT count(*) FROM units u WHERE u.worker = d.ae_title AND u.state IN ('sending', 'sent'))
WHERE ae_title = %(ae_title)s AND breaker = 'open' AND NOT paused RETURNING ae_title;

-- name: choose_probes
-- Deliveries that can test an archive whose breaker is open, the best first: those that are not suspect, then those that
-- did not fail just now, then those that wait longest. A delivery that waits for another version is left out. No row is
-- returned while such a test runs. A suspect that is being sent holds back other suspects only, because the archive
-- may not answer it for long.
SELECT d.id FROM destinations x
CROSS JOIN LATERAL (
    SELECT w.id, w.instance_id, w.next_attempt_at, is_suspect(x.ae_title, w.instance_id) AS suspect
    FROM (SELECT * FROM deliveries WHERE route = x.route AND target = x.ae_title AND state = 'pending'
        AND waits_for_version IS NULL ORDER BY next_attempt_at LIMIT 200) AS w
) AS d
WHERE x.ae_title = %(ae_title)s AND x.breaker = 'open' AND NOT x.paused AND NOT EXISTS (
    SELECT FROM deliveries o WHERE (o.id = x.probe_of OR (d.suspect AND o.id = x.turn_of))
        AND o.state = 'in_flight' AND o.lease_until > now())
ORDER BY d.suspect, d.instance_id = ANY (x.failed_instance_ids), d.next_attempt_at, d.id LIMIT %(limit)s;

-- name: begin_probe
-- pending -> pending, due now: this delivery tests the archive.
WITH due AS (
    UPDATE deliveries SET next_attempt_at = now() WHERE id = %(delivery_id)s AND state = 'pending' RETURNING id, instance_id)
UPDATE destinations x SET probe_of = CASE WHEN is_suspect(x.ae_title, due.instance_id) THEN x.probe_of ELSE due.id END
FROM due WHERE x.ae_title = %(ae_title)s AND x.breaker = 'open' AND NOT x.paused RETURNING due.id;

-- name: overdue_probes
-- Open breakers whose probe is overdue: its message was lost, or never written.
SELECT ae_title, route::text FROM destinations
WHERE configured AND breaker = 'open' AND NOT paused AND next_probe_at < now() - %(grace)s;
