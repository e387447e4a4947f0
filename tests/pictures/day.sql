-- What tests/pictures/day.py writes; it says what the values in braces are.

-- ---- instances and deliveries
SET LOCAL session_replication_role TO replica;  -- no foreign keys, no triggers: the rows agree
SELECT setseed(0.42);
CREATE TEMPORARY TABLE study AS
SELECT n, '{root}.' || n AS uid, now() - hours * interval '1 h' AS began, sender,
    CASE sender WHEN 'CT1' THEN 48 WHEN 'CT2' THEN 40 WHEN 'MR1' THEN 24 WHEN 'US1' THEN 6 ELSE 2 END
        + (random() * 6)::int AS size,
    CASE sender WHEN 'MR1' THEN '1.2.840.10008.5.1.4.1.1.4' WHEN 'US1' THEN '1.2.840.10008.5.1.4.1.1.6.1'
        WHEN 'XR1' THEN '1.2.840.10008.5.1.4.1.1.1.1' ELSE '1.2.840.10008.5.1.4.1.1.2' END AS class,
    'APP0' || 1 + n % 4 AS worker
FROM (SELECT n, CASE WHEN n % 12 = 0 THEN 7 + random() * 10 WHEN n % 2 = 0 THEN random() * 7.5 + 0.05
          ELSE 17 + random() * 7 END AS hours,
          (ARRAY['CT1', 'CT1', 'CT2', 'MR1', 'US1', 'XR1', 'XR1'])[1 + n % 7] AS sender
      FROM generate_series(1, {studies}) AS n) AS drawn;
INSERT INTO instances (sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid,
    transfer_syntax_uid, sha256, data_set_size, calling_ae_title, called_ae_title, remote_address, kind,
    correlation, place, file_name, received_at)
SELECT uid || '.1.' || k, uid, uid || '.1.0', class, '1.2.840.10008.1.2.1',
    sha256(convert_to(uid || k, 'UTF8')), 525000, sender, 'MINI_EDGE', '10.20.4.' || 10 + n % 7,
    'original'::instance_kind, NULL::correlation, 'sent'::instance_place, uid || '.1.' || k || '.dcm',
    began + k * interval '0.4 s'
FROM study, generate_series(1, size) AS k
UNION ALL
SELECT uid || '.2.' || k, uid, uid || '.2.0', '1.2.840.10008.5.1.4.1.1.7', '1.2.840.10008.1.2.1',
    sha256(convert_to('result' || uid || k, 'UTF8')), 190000, worker, 'MINI_EDGE', '10.30.1.' || 1 + n % 4,
    'result', 'references', 'sent', uid || '.2.' || k || '.dcm',
    began + k * interval '0.4 s' + CASE worker WHEN '{slow}' THEN 40 + random() * 200 ELSE 3 + random() * 6 END
        * interval '1 s'
FROM study, generate_series(1, size) AS k WHERE sender LIKE 'CT%';
CREATE TEMPORARY TABLE mine AS SELECT i.id FROM instances i JOIN study s ON s.uid = i.study_instance_uid;
CREATE TEMPORARY TABLE outage AS SELECT now() - interval '6 h' AS began, now() - interval '320 min' AS ended;
INSERT INTO deliveries (instance_id, route, target, state, priority, owed_since, attempts, next_attempt_at,
    destination, last_status, settled_at)
SELECT i.id, r.route, r.target, 'delivered', 4, i.received_at, 1, NULL, coalesce(r.peer, s.worker), 0,
    CASE WHEN r.target = 'ORTHANC' AND i.received_at BETWEEN o.began AND o.ended
        THEN o.ended + (i.received_at - o.began) / 6 ELSE i.received_at + (0.2 + random()) * interval '1 s' END
FROM instances i CROSS JOIN outage o JOIN study s ON s.uid = i.study_instance_uid
CROSS JOIN (VALUES ('pacs'::route, 'ORTHANC', 'ORTHANC'), ('archives'::route, 'VNA', 'VNA'),
    ('workers'::route, 'default', NULL)) AS r (route, target, peer)
WHERE r.route <> 'workers' OR (i.kind = 'original' AND s.sender LIKE 'CT%') ORDER BY i.received_at;
INSERT INTO attempts (delivery_id, claim_id, ended_at, duration_ms, destination, outcome, status, error)
SELECT d.id, gen_random_uuid(), d.settled_at, 90 + random() * 200, d.destination, 'delivered', 0, NULL
FROM deliveries d JOIN mine m ON m.id = d.instance_id
UNION ALL
SELECT d.id, gen_random_uuid(), d.owed_since + interval '1 s', 3, d.destination, 'peer_away', NULL,
    'ORTHANC at 10.20.1.5:104: connection refused'
FROM deliveries d JOIN mine m ON m.id = d.instance_id WHERE d.settled_at > d.owed_since + interval '1 min';
INSERT INTO expected_results (delivery_id, instance_id, worker, claim_id, state, asked_at, due_at, arrived_at,
    result_instance_id)
SELECT d.id, d.instance_id, d.destination, gen_random_uuid(),
    CASE WHEN r.received_at > d.settled_at + interval '60 s' THEN 'late' ELSE 'arrived' END::expectation_state,
    d.settled_at, d.settled_at + interval '60 s', r.received_at, r.id
FROM deliveries d JOIN instances i ON i.id = d.instance_id
JOIN instances r ON r.sop_instance_uid = replace(i.sop_instance_uid, i.study_instance_uid || '.1.',
    i.study_instance_uid || '.2.') AND r.kind = 'result'
WHERE d.route = 'workers';
INSERT INTO result_sources (result_instance_id, source_instance_id, worker)
SELECT e.result_instance_id, e.instance_id, e.worker FROM expected_results e JOIN mine m ON m.id = e.instance_id;
UPDATE deliveries SET state = 'dead', attempts = 6, last_status = 43264,
    last_error = '0xA900: the data set does not match its SOP Class'
WHERE id IN (SELECT d.id FROM deliveries d JOIN instances i ON i.id = d.instance_id
             WHERE d.target = 'VNA' AND i.calling_ae_title = 'US1' ORDER BY i.received_at DESC LIMIT 14);
UPDATE deliveries SET state = 'cancelled', settled_by = 'otto' WHERE id IN (SELECT d.id FROM deliveries d
    JOIN instances i ON i.id = d.instance_id WHERE d.target = 'VNA' AND i.calling_ae_title = 'XR1'
    ORDER BY i.received_at LIMIT 3);

-- ---- charts
INSERT INTO counter_minutes (minute, name, labels, slot, amount)
SELECT date_trunc('minute', received_at), 'instances_received', jsonb_build_object('kind', kind), 0, count(*)
FROM instances GROUP BY 1, 3
UNION ALL
SELECT date_trunc('minute', settled_at), 'delivery_attempts',
    jsonb_build_object('destination', destination, 'outcome', 'delivered'), 0, count(*)
FROM deliveries WHERE state = 'delivered' AND route <> 'workers' GROUP BY 1, 3
UNION ALL
SELECT date_trunc('minute', settled_at), 'end_to_end_seconds_bucket',
    jsonb_build_object('destination', destination, 'le', coalesce(({bounds})[
        width_bucket(extract(epoch FROM settled_at - owed_since)::float8, {bounds}) + 1]::text, '+Inf')), 0, count(*)
FROM deliveries WHERE state = 'delivered' AND route <> 'workers' GROUP BY 1, 3
ON CONFLICT DO NOTHING;
INSERT INTO backlog_minutes (minute, target, waiting, dead)
SELECT minute, target, count(*) FILTER (WHERE owed_since <= minute AND settled_at > minute), 0
FROM generate_series(date_trunc('minute', now() - interval '1 day'), now(), interval '1 min') AS minute
CROSS JOIN deliveries WHERE settled_at > owed_since + interval '30 s' AND state = 'delivered' GROUP BY 1, 2 ON CONFLICT DO NOTHING;

-- ---- refusals, and what operators did
INSERT INTO refusals (minute, kind, reason, calling_ae_title, called_ae_title, remote_address, count, first_at,
    last_at, status, detail, last_uid)
SELECT date_trunc('minute', now() - ago), kind, reason, calling, called, address, times, now() - ago,
    now() - ago + interval '20 s', NULL, NULL, NULL
FROM (VALUES
    (interval '7 min', 'association', 'calling_ae_title', 'US2', 'MINI_EDGE', '10.20.4.31', 12),
    (interval '3 h', 'association', 'called_ae_title', 'CT1', 'MINIEDGE', '10.20.4.11', 4),
    (interval '5 h', 'connection', 'too_many_connections', '', '', '10.20.9.77', 31)
) AS r (ago, kind, reason, calling, called, address, times);
UPDATE activity SET at = at - interval '26 h';
INSERT INTO activity (at, who, via, address, verb, target, count, outcome)
SELECT now() - ago, who, via, address, verb, target, count, outcome FROM (VALUES
    (interval '22 h', 'anna', 'console', '10.20.8.14', 'add-account', 'otto', NULL, 'operator'),
    (interval '19 h', 'otto', 'console', '10.20.8.21', 'resend', 'study {root}.17', 46, '46 resent'),
    (interval '8 h', 'root', 'cli', 'edge1', 'reload-config', 'config.yaml', NULL, 'version 4 runs'),
    (interval '350 min', 'anna', 'console', '10.20.8.14', 'pause', 'ORTHANC', NULL,
        'paused for 30 min: its storage is being moved'),
    (interval '318 min', 'otto', 'console', '10.20.8.21', 'resume', 'ORTHANC', NULL, 'gets its deliveries again'),
    (interval '4 h', 'otto', 'console', '10.20.8.21', 'cancel', 'state dead, target archives:VNA', 3, '3 cancelled'),
    (interval '95 min', 'root', 'cli', 'edge1', 'retry', 'state dead, target pacs:ORTHANC', 128, '128 retried'),
    (interval '12 min', 'otto', 'console', '10.20.8.21', 'complete',
        'study or series {root}.388 for lung', 1, 'sent as it is')
) AS a (ago, who, via, address, verb, target, count, outcome) ORDER BY ago DESC;
