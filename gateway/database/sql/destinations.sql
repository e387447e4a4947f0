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

-- name: all
SELECT d.ae_title, d.route::text, d.breaker::text, d.probe_by_store, d.paused, d.paused_by, d.failures_in_row,
    d.reason, d.changed_at, d.next_probe_at, coalesce(d.full_outstanding, d.max_outstanding) AS max_outstanding,
    (SELECT count(*) FROM expected_results e WHERE e.worker = d.ae_title AND e.state = 'owed')
        + (SELECT count(*) FROM units u WHERE u.worker = d.ae_title AND u.state IN ('sending', 'sent')) AS outstanding,
    d.answers, d.reason_at, d.full_outstanding IS NOT NULL AS is_tried,
    (SELECT count(*) FROM suspects s WHERE s.ae_title = d.ae_title AND s.failed_at > now() - interval '10 minutes') AS suspects,
    d.pause_reason, d.paused_until
FROM destinations d WHERE d.configured ORDER BY d.route, d.ae_title;
