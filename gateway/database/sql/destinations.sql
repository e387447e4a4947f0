-- name: configure
-- Insert or update a peer of config.yaml. A known peer keeps its breaker, its pause, its turn, and its test with one
-- instance.
INSERT INTO destinations AS d (ae_title, route, max_outstanding) VALUES (%(ae_title)s, %(route)s::route, %(max_outstanding)s)
ON CONFLICT (ae_title) DO UPDATE SET route = EXCLUDED.route, configured = true,
    max_outstanding = CASE WHEN d.failures_in_row > 0 AND d.full_outstanding IS NOT NULL THEN d.max_outstanding ELSE EXCLUDED.max_outstanding END,
    full_outstanding = CASE WHEN d.failures_in_row > 0 AND d.full_outstanding IS NOT NULL THEN EXCLUDED.max_outstanding END
WHERE (d.route, coalesce(d.full_outstanding, d.max_outstanding), d.configured) IS DISTINCT FROM (EXCLUDED.route, EXCLUDED.max_outstanding, true)
    OR (d.failures_in_row = 0 AND d.full_outstanding IS NOT NULL);

-- name: forget_others
UPDATE destinations SET configured = false WHERE configured AND NOT ae_title = ANY (%(ae_titles)s::text[]);

-- name: forget_removed
UPDATE destinations SET configured = false
WHERE configured AND route <> 'pacs' AND NOT ae_title = ANY (%(ae_titles)s::text[]);

-- name: configure_applications
-- Which workers serve which application. Writes only what differs, so a process that starts locks nothing.
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest(%(applications)s::text[], %(ae_titles)s::text[], %(max_outstanding)s::integer[])
        AS w (application, ae_title, max_outstanding)
), gone AS (
    DELETE FROM application_workers a WHERE NOT EXISTS (
        SELECT FROM wanted w WHERE (w.application, w.ae_title) = (a.application, a.ae_title))
)
INSERT INTO application_workers AS a SELECT * FROM wanted
ON CONFLICT ON CONSTRAINT application_workers_pkey DO UPDATE SET max_outstanding = EXCLUDED.max_outstanding
WHERE a.max_outstanding <> EXCLUDED.max_outstanding;

-- name: configure_units
-- The applications whose unit is a series or a study. Writes only what differs.
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest(%(applications)s::text[], %(units)s::text[], %(complete_after)s::interval[], %(max_wait)s::interval[],
                         %(late)s::text[]) AS w (application, unit, complete_after, max_wait, late)
), gone AS (
    DELETE FROM application_units a WHERE NOT EXISTS (SELECT FROM wanted w WHERE w.application = a.application)
)
INSERT INTO application_units AS a SELECT * FROM wanted
ON CONFLICT ON CONSTRAINT application_units_pkey DO UPDATE SET unit = EXCLUDED.unit, complete_after = EXCLUDED.complete_after,
    max_wait = EXCLUDED.max_wait, late = EXCLUDED.late
WHERE (a.unit, a.complete_after, a.max_wait, a.late)
    IS DISTINCT FROM (EXCLUDED.unit, EXCLUDED.complete_after, EXCLUDED.max_wait, EXCLUDED.late);

-- name: rename_pacs
-- The PACS has another AE title than before: some of its deliveries get the new one, the newest first. An instance with
-- several deliveries to the PACS keeps the older ones as they are. Without a change it reads the rows of the destinations, and
-- looks once for what is owed under another title.
WITH old AS (
    SELECT d.id FROM deliveries d
    WHERE d.route = 'pacs' AND d.target <> %(ae_title)s AND d.id < %(before)s
        AND (EXISTS (SELECT FROM destinations x WHERE x.route = 'pacs' AND x.ae_title <> %(ae_title)s)
            OR EXISTS (SELECT FROM deliveries u WHERE u.route = 'pacs' AND (u.target < %(ae_title)s OR u.target > %(ae_title)s)
                AND u.state IN ('collecting', 'pending', 'in_flight', 'dead')))
        AND NOT EXISTS (SELECT FROM deliveries o
            WHERE o.instance_id = d.instance_id AND o.route = 'pacs' AND (o.target = %(ae_title)s OR o.id > d.id))
    ORDER BY d.id DESC LIMIT %(limit)s FOR UPDATE OF d SKIP LOCKED
), renamed AS (
    UPDATE deliveries d SET target = %(ae_title)s FROM old WHERE d.id = old.id
)
SELECT min(id) FROM old;

-- name: renamed_to
-- The present AE title of the PACS, if it had another one before, which may be that of another destination now.
SELECT p.ae_title FROM destinations p
WHERE p.route = 'pacs' AND p.configured AND (
    EXISTS (SELECT FROM destinations x WHERE x.route = 'pacs' AND NOT x.configured)
    OR EXISTS (SELECT FROM deliveries d WHERE d.route = 'pacs' AND (d.target < p.ae_title OR d.target > p.ae_title)
        AND d.state IN ('collecting', 'pending', 'in_flight', 'dead')));

-- name: forget_renamed
-- An AE title that the PACS had before is that of a removed archive, once no delivery to the PACS has it.
UPDATE destinations x SET route = 'archives'
WHERE x.route = 'pacs' AND NOT x.configured AND x.ae_title <> %(ae_title)s AND NOT EXISTS (
    SELECT FROM deliveries d WHERE d.route = 'pacs' AND d.target <> %(ae_title)s AND NOT EXISTS (
        SELECT FROM deliveries o
        WHERE o.instance_id = d.instance_id AND o.route = 'pacs' AND (o.target = %(ae_title)s OR o.id > d.id)));

-- name: take_slot
-- Take the next time at which an instance may be sent to a destination with a rate; return in how many seconds it is. A time
-- far ahead is from a clock that was set back, and does not count.
UPDATE destinations SET next_slot_at = %(pause)s::interval + CASE
    WHEN next_slot_at BETWEEN clock_timestamp() AND clock_timestamp() + interval '5 minutes' THEN next_slot_at
    ELSE clock_timestamp() END
WHERE ae_title = %(ae_title)s
RETURNING greatest(extract(epoch FROM next_slot_at - %(pause)s::interval - clock_timestamp()), 0)::float8;

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

-- name: all
SELECT d.ae_title, d.route::text, d.breaker::text, d.probe_by_store, d.paused, d.paused_by, d.failures_in_row,
    d.reason, d.changed_at, d.next_probe_at, coalesce(d.full_outstanding, d.max_outstanding) AS max_outstanding,
    (SELECT count(*) FROM expected_results e WHERE e.worker = d.ae_title AND e.state = 'owed')
        + (SELECT count(*) FROM units u WHERE u.worker = d.ae_title AND u.state IN ('sending', 'sent')) AS outstanding,
    d.answers, d.reason_at, d.full_outstanding IS NOT NULL AS is_tried,
    (SELECT count(*) FROM suspects s WHERE s.ae_title = d.ae_title AND s.failed_at > now() - interval '10 minutes') AS suspects,
    d.pause_reason, d.paused_until
FROM destinations d WHERE d.configured ORDER BY d.route, d.ae_title;

-- name: overdue_probes
-- Open breakers whose probe is overdue: its message was lost, or never written.
SELECT ae_title, route::text FROM destinations
WHERE configured AND breaker = 'open' AND NOT paused AND next_probe_at < now() - %(grace)s;
