-- Counters that every process adds to, what the edge refused, and the history of what it kept.
--
-- `dramatiq.rates` is not written any more. It stays, because processes of the version before write and read it.
COMMENT ON TABLE dramatiq.rates IS 'written by versions before 0.3.0 only';

-- A total is the sum over its slots. A transaction adds in a slot that no other open transaction adds in, so that none
-- waits for the commit of another (add_counts).
CREATE TABLE counters (
    name text NOT NULL CONSTRAINT counters_name_is_a_word CHECK (name ~ '^[a-z][a-z0-9_]*$'),
    labels jsonb NOT NULL CONSTRAINT counters_labels_are_named CHECK (jsonb_typeof(labels) = 'object'),
    slot smallint NOT NULL,
    total double precision NOT NULL DEFAULT 0 CONSTRAINT counters_never_negative CHECK (total >= 0),
    CONSTRAINT counters_pkey PRIMARY KEY (name, labels, slot)
) WITH (fillfactor = 50);
COMMENT ON TABLE counters IS 'what was counted since the first migration; a total never falls';

CREATE TABLE counter_minutes (
    minute timestamptz NOT NULL,
    name text NOT NULL,
    labels jsonb NOT NULL,
    slot smallint NOT NULL,
    amount double precision NOT NULL DEFAULT 0,
    CONSTRAINT counter_minutes_pkey PRIMARY KEY (minute, name, labels, slot)
) WITH (fillfactor = 50);
COMMENT ON TABLE counter_minutes IS 'what was added to a counter in a minute; kept for two days';

-- Add to counters, in the caller's transaction. A NULL in p_minutes is the minute of now().
CREATE FUNCTION add_counts(p_names text[], p_labels jsonb[], p_amounts double precision[], p_minutes timestamptz[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    -- the first key of the advisory locks; the queue's locks have one key of 64 bits, so they never collide
    c_locks CONSTANT integer := 1296646997;
    c_slots CONSTANT integer := 64;
    v_slot integer := pg_backend_pid() % c_slots;
    v_tries integer := 0;
BEGIN
    -- the lock ends with the transaction; a transaction that adds again finds its own slot free
    WHILE NOT pg_try_advisory_xact_lock(c_locks, v_slot) LOOP
        v_slot := (v_slot + 1) % c_slots;
        v_tries := v_tries + 1;
        IF v_tries = c_slots THEN
            PERFORM pg_advisory_xact_lock(c_locks, v_slot);
            EXIT;
        END IF;
    END LOOP;
    INSERT INTO counters AS c (name, labels, slot, total)
    SELECT n.name, n.labels, v_slot, sum(n.amount)
    FROM unnest(p_names, p_labels, p_amounts) AS n (name, labels, amount)
    GROUP BY n.name, n.labels ORDER BY n.name, n.labels
    ON CONFLICT ON CONSTRAINT counters_pkey DO UPDATE SET total = c.total + EXCLUDED.total;
    INSERT INTO counter_minutes AS c (minute, name, labels, slot, amount)
    SELECT date_trunc('minute', coalesce(n.minute, now())), n.name, n.labels, v_slot, sum(n.amount)
    FROM unnest(p_names, p_labels, p_amounts, p_minutes) AS n (name, labels, amount, minute)
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT ON CONSTRAINT counter_minutes_pkey DO UPDATE SET amount = c.amount + EXCLUDED.amount;
END $$;

-- What the edge turned away, by minute. AE titles and addresses beyond a limit are `other`.
CREATE TABLE refusals (
    minute timestamptz NOT NULL,
    kind text NOT NULL,
    reason text NOT NULL,
    calling_ae_title text NOT NULL,
    called_ae_title text NOT NULL,
    remote_address text NOT NULL,
    count bigint NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    status integer,
    detail text,
    last_uid text,
    CONSTRAINT refusals_pkey PRIMARY KEY (minute, kind, reason, calling_ae_title, called_ae_title, remote_address)
);
COMMENT ON COLUMN refusals.kind IS 'connection, tls, timeout, broken, association, context or c_store';
COMMENT ON COLUMN refusals.reason IS 'a word of a fixed list; empty titles: the peer had named none yet';
COMMENT ON COLUMN refusals.last_uid IS 'of the last one: a SOP Instance UID, or the SOP Class UID of a context';
CREATE INDEX refusals_by_time ON refusals (last_at);

-- The instances that were refused, so that they are found by their UIDs. One row for each UID, sender and reason.
CREATE TABLE refused_instances (
    sop_instance_uid text NOT NULL,
    study_instance_uid text NOT NULL,
    calling_ae_title text NOT NULL,
    remote_address text NOT NULL,
    reason text NOT NULL,
    status integer NOT NULL,
    detail text,
    count bigint NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    CONSTRAINT refused_instances_pkey PRIMARY KEY (sop_instance_uid, calling_ae_title, remote_address, reason)
);
COMMENT ON COLUMN refused_instances.study_instance_uid IS 'empty where the data set could not be read so far';
CREATE INDEX refused_instances_by_study ON refused_instances (study_instance_uid) WHERE study_instance_uid <> '';
CREATE INDEX refused_instances_by_time ON refused_instances (last_at);

-- What was kept and is purged: a row for each study, series and instance, for sweep.history_days.
CREATE TABLE history_studies (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT history_studies_pkey PRIMARY KEY,
    study_instance_uid text NOT NULL CONSTRAINT history_studies_one_per_uid UNIQUE,
    first_received_at timestamptz NOT NULL,
    last_received_at timestamptz NOT NULL,
    purged_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN history_studies.purged_at IS 'when its last instance was purged';
CREATE INDEX history_studies_by_time ON history_studies (last_received_at);

CREATE TABLE history_series (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT history_series_pkey PRIMARY KEY,
    study_id bigint NOT NULL CONSTRAINT history_series_study_id_fkey REFERENCES history_studies ON DELETE CASCADE,
    series_instance_uid text NOT NULL,
    calling_ae_title text NOT NULL,
    remote_address text NOT NULL,
    kind instance_kind NOT NULL,
    CONSTRAINT history_series_one_per_sender UNIQUE (study_id, series_instance_uid, calling_ae_title, remote_address, kind)
);
CREATE INDEX history_series_by_uid ON history_series USING hash (series_instance_uid);
CREATE INDEX history_series_by_sender ON history_series (calling_ae_title, id);

CREATE TABLE history_instances (
    series_id bigint NOT NULL CONSTRAINT history_instances_series_id_fkey REFERENCES history_series ON DELETE CASCADE,
    received_at timestamptz NOT NULL,
    repeats integer NOT NULL,
    sop_instance_uid text NOT NULL,
    outcomes jsonb NOT NULL
);
COMMENT ON COLUMN history_instances.outcomes IS 'by destination: its state, when it was settled, the last status';
CREATE INDEX history_instances_by_series ON history_instances (series_id);
CREATE INDEX history_instances_by_uid ON history_instances USING hash (sop_instance_uid);

-- Keyed hashes of the accession number and the patient ID of a series; only with edge.search_key.
CREATE TABLE search_hashes (
    hash bytea NOT NULL CONSTRAINT search_hashes_is_a_digest CHECK (octet_length(hash) = 32),
    study_instance_uid text NOT NULL,
    series_instance_uid text NOT NULL,
    CONSTRAINT search_hashes_pkey PRIMARY KEY (hash, series_instance_uid)
);
COMMENT ON TABLE search_hashes IS 'deleted with the last row of its study in instances and history_studies';
CREATE INDEX search_hashes_by_study ON search_hashes (study_instance_uid);
