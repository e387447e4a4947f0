-- Text that several statements have in common. {fragment:name} in a statement is replaced by it, without its comment.

-- fragment: stored_instance
-- The columns of StoredInstance (gateway/database/tables/instances.py), read from instances AS i.
i.id AS instance_id, i.sop_instance_uid, i.study_instance_uid, i.sop_class_uid, i.transfer_syntax_uid,
    encode(i.sha256, 'hex') AS sha256, i.data_set_size, i.file_name, i.conflict, i.place::text

-- fragment: registered_instance
-- The columns of RegisteredInstance (gateway/database/tables/instances.py). With verdict name_taken the functions give NULLs.
coalesce(instance_id, 0) AS instance_id, verdict, coalesce(kept_file_name, '') AS file_name,
    coalesce(kept_place, 'incoming')::text AS place, coalesce(kept_kind, 'original')::text AS kind

-- fragment: counted_kind
-- What a reception is counted as: a repeat of a stored instance, or what it is itself.
CASE WHEN verdict IN ('stored', 'conflict') THEN kept_kind::text ELSE 'repeat' END

-- fragment: connection_of_process
-- Whether a backend (pg_stat_activity AS a) is the connection that wrote the row of a process (processes AS p). After a restart
-- of PostgreSQL another backend may have its number. A role without the right to see the start of the backend gets true.
a.pid = p.server_process AND coalesce(a.backend_start = p.server_started_at, true) AND a.datname = current_database()

-- fragment: claimed_delivery
-- The columns of DeliveryClaim (gateway/database/tables/deliveries.py) that are not those of its instance.
d.id AS delivery_id, d.claim_id::text, d.attempts, d.refusals, now() - d.owed_since AS owed_for, d.destination, d.target

-- fragment: selection
-- The deliveries that an operator means (Selection); each condition is off where its parameter is NULL.
(%(delivery_id)s::bigint IS NULL OR d.id = %(delivery_id)s)
    AND (%(study)s::text IS NULL OR i.study_instance_uid = %(study)s)
    AND (%(state)s::delivery_state IS NULL OR d.state = %(state)s::delivery_state)
    AND (%(route)s::route IS NULL OR d.route = %(route)s::route)
    AND (%(target)s::text IS NULL OR d.target = %(target)s)
    AND (%(delivery_ids)s::bigint[] IS NULL OR d.id = ANY (%(delivery_ids)s))

-- fragment: reason_key
-- A short name for the reason of delivery d. The reason itself is no part of an address: a peer wrote it.
left(md5(coalesce(d.last_error, '')), 12)

-- fragment: wanted_deliveries
-- The deliveries d that an operator looks for (WantedDeliveries), besides their states.
(%(route)s::route IS NULL OR d.route = %(route)s::route)
    AND (%(target)s::text IS NULL OR d.target = %(target)s)
    AND (%(reason_key)s::text IS NULL OR left(md5(coalesce(d.last_error, '')), 12) = %(reason_key)s)

-- fragment: wanted_time
-- Instances that were received in a time; each bound is off where its parameter is NULL.
(%(begin)s::timestamptz IS NULL OR received_at >= %(begin)s)
        AND (%(until)s::timestamptz IS NULL OR received_at <= %(until)s)

-- fragment: wanted_instance
-- Instances i that came from a sender, and have a delivery in one of the states; each is off where its parameter is NULL.
(%(sender)s::text IS NULL OR i.calling_ae_title = %(sender)s)
        AND (%(states)s::delivery_state[] IS NULL OR EXISTS (
            SELECT FROM deliveries d WHERE d.instance_id = i.id AND d.state = ANY (%(states)s::delivery_state[]) OFFSET 0))

-- fragment: send_message_now
-- Write the message of delivery d, due now; it gives the message's id.
dramatiq.send(queue_of(d.route, d.target), forward_actor(d.route), jsonb_build_array(d.id), d.priority, now(), d.id)

-- fragment: meant_instances
-- The instances with that SOP Instance UID, of that series, or of that study.
SELECT * FROM instances WHERE id IN (
        SELECT id FROM instances WHERE sop_instance_uid = %(uid)s
        UNION SELECT id FROM instances WHERE series_instance_uid = %(uid)s
        UNION SELECT id FROM instances WHERE study_instance_uid = %(uid)s)

-- fragment: shown_target
-- The target of delivery d for people: the AE title of an archive; an application and the worker that has the instance.
CASE WHEN d.route <> 'workers' THEN d.target WHEN d.target = 'default' THEN coalesce(d.destination, 'workers')
        ELSE d.target || coalesce(' (' || d.destination || ')', '') END

-- fragment: owed_targets
-- The targets with unsettled deliveries, as a recursive query `owed_targets`; reads one index entry for each.
owed_targets (route, target) AS (
    (SELECT d.route, d.target FROM deliveries d
     WHERE d.state IN ('collecting', 'pending', 'in_flight', 'dead') ORDER BY d.route, d.target LIMIT 1)
    UNION ALL
    SELECT next.route, next.target FROM owed_targets t CROSS JOIN LATERAL (
        SELECT d.route, d.target FROM deliveries d
        WHERE d.state IN ('collecting', 'pending', 'in_flight', 'dead') AND (d.route, d.target) > (t.route, t.target)
        ORDER BY d.route, d.target LIMIT 1) AS next)

-- fragment: covered_seconds
-- The seconds that the rows of `last` cover: the window, or less where there are more rows than its limit.
(SELECT extract(epoch FROM CASE WHEN count(*) < %(limit)s THEN %(window)s::interval
    ELSE least(%(window)s::interval, now() - min(owed_since)) END)::float8 FROM last)
