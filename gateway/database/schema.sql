-- The schema that the migrations make. Written by `make schema`; do not edit.

enum breaker_state: closed, open
enum correlation: references, study, ambiguous, unmatched
enum delivery_state: collecting, pending, in_flight, delivered, dead, cancelled
enum dramatiq.state: queued, consumed, rejected, done
enum expectation_state: owed, arrived, late, timed_out
enum instance_kind: original, result
enum instance_place: incoming, queued, sent, failed
enum route: pacs, workers, archives
enum unit_state: collecting, complete, sending, sent, answered, timed_out, superseded, dead, cancelled

sequence activity_id_seq
sequence attempts_id_seq
sequence configurations_version_seq
sequence console_actions_id_seq
sequence deliveries_id_seq
sequence expected_results_id_seq
sequence findings_id_seq
sequence history_series_id_seq
sequence history_studies_id_seq
sequence instances_id_seq
sequence study_numbers
sequence unit_dispatches_id_seq
sequence units_id_seq
sequence worker_turn

view dramatiq.live
 SELECT (classid::bigint << 32) | objid::bigint AS id
   FROM pg_locks
  WHERE locktype = 'advisory'::text AND objsubid = 1 AND granted AND database = (( SELECT pg_database.oid
           FROM pg_database
          WHERE pg_database.datname = current_database()));

table accepted_syntaxes
    ae_title text NOT NULL
    transfer_syntax_uid text NOT NULL
    accepted boolean NOT NULL
    since timestamp with time zone NOT NULL DEFAULT now()
    declined_at timestamp with time zone -- since when it is declined, if it was accepted before
    constraint accepted_syntaxes_pkey PRIMARY KEY (ae_title, transfer_syntax_uid)

table activity
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    at timestamp with time zone NOT NULL DEFAULT now()
    who text NOT NULL
    via text NOT NULL
    address text NOT NULL -- the host of a command, or the address of a browser
    verb text NOT NULL
    target text NOT NULL
    count bigint -- how many deliveries, messages or faults; NULL where nothing is counted
    outcome text NOT NULL
    constraint activity_address_is_short CHECK ((length(address) <= 200))
    constraint activity_outcome_is_short CHECK ((length(outcome) <= 500))
    constraint activity_pkey PRIMARY KEY (id)
    constraint activity_target_is_short CHECK ((length(target) <= 500))
    constraint activity_verb_is_a_word CHECK ((verb ~ '^[a-z][a-z_-]{0,39}$'::text))
    constraint activity_via_is_known CHECK ((via = ANY (ARRAY['cli'::text, 'console'::text])))
    constraint activity_who_is_named CHECK (((length(who) >= 1) AND (length(who) <= 200)))
    CREATE TRIGGER activity_is_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.activity FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_activity()

table application_units
    application text NOT NULL
    unit text NOT NULL
    complete_after interval NOT NULL
    max_wait interval NOT NULL
    late text NOT NULL
    constraint application_units_late CHECK ((late = ANY (ARRAY['new_only'::text, 'resend_all'::text, 'ignore'::text])))
    constraint application_units_pkey PRIMARY KEY (application)
    constraint application_units_unit CHECK ((unit = ANY (ARRAY['series'::text, 'study'::text])))

table application_workers
    application text NOT NULL
    ae_title text NOT NULL
    max_outstanding integer NOT NULL
    constraint application_workers_pkey PRIMARY KEY (application, ae_title)

table attempts
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    delivery_id bigint NOT NULL
    claim_id uuid NOT NULL
    ended_at timestamp with time zone NOT NULL DEFAULT clock_timestamp()
    duration_ms double precision NOT NULL
    destination text NOT NULL
    outcome text NOT NULL
    status integer
    error text
    fenced boolean NOT NULL DEFAULT false
    constraint attempts_delivery_id_fkey FOREIGN KEY (delivery_id) REFERENCES deliveries(id) ON DELETE CASCADE
    constraint attempts_pkey PRIMARY KEY (id)
    CREATE INDEX attempts_by_delivery ON public.attempts USING btree (delivery_id)
    CREATE INDEX attempts_without_file ON public.attempts USING btree (delivery_id) WHERE (outcome = ANY (ARRAY['lost_file'::text, 'not_read'::text]))
    CREATE TRIGGER attempts_are_counted AFTER INSERT ON public.attempts REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_attempts()

table backlog_minutes
    minute timestamp with time zone NOT NULL
    target text NOT NULL
    waiting bigint NOT NULL -- deliveries that are collecting, pending or in flight, counted up to a limit
    dead bigint NOT NULL
    constraint backlog_minutes_pkey PRIMARY KEY (minute, target)

table configurations
    version bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    state text NOT NULL
    digest text NOT NULL -- SHA-256 of the keys and values of the file, without comments and layout
    document text NOT NULL -- keys and values of the file, as YAML; secrets are left out
    difference text[] NOT NULL -- what it changed, one sentence each
    proposed_by text NOT NULL
    proposed_at timestamp with time zone NOT NULL DEFAULT clock_timestamp()
    decided_at timestamp with time zone
    reason text
    constraint configurations_pkey PRIMARY KEY (version)
    constraint configurations_state CHECK ((state = ANY (ARRAY['proposed'::text, 'taken'::text, 'refused'::text])))
    CREATE UNIQUE INDEX configurations_one_proposed ON public.configurations USING btree (state) WHERE (state = 'proposed'::text)
    CREATE INDEX configurations_taken ON public.configurations USING btree (version) WHERE (state = 'taken'::text)

table console_actions
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    who text NOT NULL
    address text NOT NULL
    verb text NOT NULL
    target text NOT NULL
    total bigint NOT NULL
    done bigint NOT NULL DEFAULT 0
    state text NOT NULL DEFAULT 'running'::text
    note text NOT NULL DEFAULT ''::text
    began_at timestamp with time zone NOT NULL DEFAULT now()
    changed_at timestamp with time zone NOT NULL DEFAULT now()
    constraint console_actions_pkey PRIMARY KEY (id)
    constraint console_actions_state_is_known CHECK ((state = ANY (ARRAY['running'::text, 'done'::text, 'stopped'::text, 'failed'::text])))

table console_failures
    address text NOT NULL
    failures integer NOT NULL
    last_at timestamp with time zone NOT NULL
    locked_until timestamp with time zone
    constraint console_failures_pkey PRIMARY KEY (address)

table console_sessions
    token_hash bytea NOT NULL -- SHA-256 of the cookie
    name text NOT NULL
    address text NOT NULL
    created_at timestamp with time zone NOT NULL DEFAULT now()
    used_at timestamp with time zone NOT NULL DEFAULT now()
    constraint console_sessions_is_a_digest CHECK ((octet_length(token_hash) = 32))
    constraint console_sessions_name_fkey FOREIGN KEY (name) REFERENCES console_users(name) ON DELETE CASCADE
    constraint console_sessions_pkey PRIMARY KEY (token_hash)
    CREATE INDEX console_sessions_by_name ON public.console_sessions USING btree (name)

table console_users
    name text NOT NULL
    role text NOT NULL
    password_hash text -- argon2id; NULL: only a reverse proxy signs this account in
    created_at timestamp with time zone NOT NULL DEFAULT now()
    created_by text NOT NULL
    used_at timestamp with time zone
    failures integer NOT NULL DEFAULT 0
    locked_until timestamp with time zone
    constraint console_users_name_is_plain CHECK ((name ~ '^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$'::text))
    constraint console_users_pkey PRIMARY KEY (name)
    constraint console_users_role_is_known CHECK ((role = ANY (ARRAY['viewer'::text, 'operator'::text, 'admin'::text])))

table counted_attempts
    counted_at timestamp with time zone NOT NULL DEFAULT now()
    destination text NOT NULL
    outcome text NOT NULL -- that of the attempt; fenced: its claim no longer held
    seconds double precision NOT NULL
    since_reception_seconds double precision -- only where the destination got the instance for the first time

table counted_cancellations
    counted_at timestamp with time zone NOT NULL DEFAULT now()
    destination text NOT NULL -- the target of the delivery: an archive or an application

table counted_receptions
    counted_at timestamp with time zone NOT NULL DEFAULT now()
    calling_ae_title text NOT NULL
    kind text NOT NULL -- original or result; repeat: of an instance that was stored
    receptions integer NOT NULL
    bytes bigint NOT NULL

table counted_results
    counted_at timestamp with time zone NOT NULL DEFAULT now()
    destination text NOT NULL
    outcome text NOT NULL
    seconds double precision

table counter_minutes
    minute timestamp with time zone NOT NULL
    name text NOT NULL
    labels jsonb NOT NULL
    slot smallint NOT NULL
    amount double precision NOT NULL DEFAULT 0
    constraint counter_minutes_pkey PRIMARY KEY (minute, name, labels, slot)

table counters
    name text NOT NULL
    labels jsonb NOT NULL
    slot smallint NOT NULL
    total double precision NOT NULL DEFAULT 0
    constraint counters_labels_are_named CHECK ((jsonb_typeof(labels) = 'object'::text))
    constraint counters_name_is_a_word CHECK ((name ~ '^[a-z][a-z0-9_]*$'::text))
    constraint counters_never_negative CHECK ((total >= (0)::double precision))
    constraint counters_pkey PRIMARY KEY (name, labels, slot)

table decisions
    instance_id bigint NOT NULL
    rules bytea NOT NULL
    accepted text[] NOT NULL
    refused text[] NOT NULL -- the targets whose rule did not accept it, such as workers:chest-ct
    undecided text[] NOT NULL
    constraint decisions_instance_id_fkey FOREIGN KEY (instance_id) REFERENCES instances(id) ON DELETE CASCADE
    constraint decisions_pkey PRIMARY KEY (instance_id)
    CREATE INDEX decisions_undecided ON public.decisions USING btree (instance_id) WHERE (undecided <> '{}'::text[])

table deliveries
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    instance_id bigint NOT NULL
    route route NOT NULL
    state delivery_state NOT NULL DEFAULT 'pending'::delivery_state
    priority smallint NOT NULL
    owed_since timestamp with time zone NOT NULL DEFAULT now()
    attempts integer NOT NULL DEFAULT 0
    refusals integer NOT NULL DEFAULT 0
    redispatches integer NOT NULL DEFAULT 0
    next_attempt_at timestamp with time zone DEFAULT now()
    claim_id uuid
    claimed_by bigint
    lease_until timestamp with time zone
    message_id uuid
    destination text
    last_status integer
    last_error text
    settled_at timestamp with time zone
    settled_by text
    waits_for text -- the worker that has the rest of its study and was busy; while pending
    owed_order bigint -- its place in the order of versions; NULL: the place is its id
    waits_for_version bigint -- the delivery of another version that it waited for at its last claim
    is_waited_for boolean NOT NULL DEFAULT false -- a delivery of another version waits for it, or has waited for it
    may_have_arrived boolean NOT NULL DEFAULT false -- one of several versions, sent in an attempt that is not settled: the peer may have it
    owe_again boolean NOT NULL DEFAULT false -- an older version may have arrived during this attempt: send this one again after it
    parked_for text -- while pending: the peer for which it waits for its turn
    target text NOT NULL -- the AE title of an archive, or the name of an application
    unit_id bigint -- the unit with which it is sent
    constraint deliveries_in_flight_is_claimed CHECK (((state = 'in_flight'::delivery_state) = ((claim_id IS NOT NULL) AND (lease_until IS NOT NULL))))
    constraint deliveries_instance_id_fkey FOREIGN KEY (instance_id) REFERENCES instances(id) ON DELETE CASCADE
    constraint deliveries_one_per_route UNIQUE (instance_id, route, target)
    constraint deliveries_pending_has_a_time CHECK (((state <> 'pending'::delivery_state) OR (next_attempt_at IS NOT NULL)))
    constraint deliveries_pkey PRIMARY KEY (id)
    CREATE INDEX deliveries_by_unit ON public.deliveries USING btree (unit_id) WHERE (unit_id IS NOT NULL)
    CREATE INDEX deliveries_given_up ON public.deliveries USING btree (state, id) WHERE (state = ANY (ARRAY['dead'::delivery_state, 'cancelled'::delivery_state]))
    CREATE INDEX deliveries_parked ON public.deliveries USING btree (parked_for, id) WHERE ((state = 'pending'::delivery_state) AND (parked_for IS NOT NULL))
    CREATE INDEX deliveries_unsettled ON public.deliveries USING btree (route, target, state, next_attempt_at) WHERE (state = ANY (ARRAY['collecting'::delivery_state, 'pending'::delivery_state, 'in_flight'::delivery_state, 'dead'::delivery_state]))
    CREATE INDEX deliveries_waiting_for_a_worker ON public.deliveries USING btree (waits_for, next_attempt_at) WHERE ((state = 'pending'::delivery_state) AND (waits_for IS NOT NULL))
    CREATE TRIGGER cancellations_are_counted AFTER UPDATE OF state ON public.deliveries FOR EACH ROW WHEN (((new.state = 'cancelled'::delivery_state) AND (old.state <> 'cancelled'::delivery_state))) EXECUTE FUNCTION count_cancellation()
    CREATE TRIGGER deliveries_collect AFTER INSERT ON public.deliveries REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION collect_deliveries()
    CREATE TRIGGER deliveries_collect_again AFTER UPDATE OF state ON public.deliveries FOR EACH ROW WHEN (((new.unit_id IS NOT NULL) AND (new.state = 'pending'::delivery_state) AND (old.state <> 'pending'::delivery_state))) EXECUTE FUNCTION collect_again()
    CREATE TRIGGER deliveries_discard_dead_messages AFTER UPDATE OF state ON public.deliveries FOR EACH ROW WHEN (((old.state <> new.state) AND ((old.state = 'dead'::delivery_state) OR (new.state = 'cancelled'::delivery_state)))) EXECUTE FUNCTION discard_dead_messages()
    CREATE TRIGGER deliveries_name_target BEFORE INSERT ON public.deliveries FOR EACH ROW WHEN ((new.target IS NULL)) EXECUTE FUNCTION name_target()
    CREATE TRIGGER deliveries_owe_newest AFTER UPDATE OF state ON public.deliveries FOR EACH ROW WHEN ((new.may_have_arrived AND (new.state = ANY (ARRAY['dead'::delivery_state, 'cancelled'::delivery_state])))) EXECUTE FUNCTION owe_newest_after_unsettled()
    CREATE TRIGGER deliveries_transition BEFORE UPDATE OF state ON public.deliveries FOR EACH ROW WHEN ((old.state <> new.state)) EXECUTE FUNCTION refuse_transition()
    CREATE TRIGGER deliveries_wake_versions AFTER UPDATE OF state, owed_order ON public.deliveries FOR EACH ROW WHEN ((new.is_waited_for AND (new.state <> 'in_flight'::delivery_state))) EXECUTE FUNCTION wake_versions()

table destinations
    ae_title text NOT NULL
    route route NOT NULL
    configured boolean NOT NULL DEFAULT true
    max_outstanding integer NOT NULL
    breaker breaker_state NOT NULL DEFAULT 'closed'::breaker_state
    probe_by_store boolean NOT NULL DEFAULT false
    paused boolean NOT NULL DEFAULT false
    paused_by text
    failures_in_row integer NOT NULL DEFAULT 0
    failed_instance_ids bigint[] NOT NULL DEFAULT '{}'::bigint[]
    reason text
    changed_at timestamp with time zone NOT NULL DEFAULT now()
    next_probe_at timestamp with time zone
    last_turn bigint NOT NULL DEFAULT 0
    answers text -- its answer to the last probe: a C-ECHO, or an association if it has no Verification
    reason_at timestamp with time zone -- when `reason` last changed
    full_outstanding integer -- the configured max_outstanding, while a worker is tried with one instance
    probe_of bigint -- the delivery that tries the peer while its breaker is open; valid while that delivery is in flight
    turn_of bigint -- the suspect delivery that has the turn; valid while that delivery is in flight
    next_slot_at timestamp with time zone -- with a rate: when the next instance may be sent to it
    pause_reason text -- why an operator paused it, in his words
    paused_until timestamp with time zone -- when the pause ends by itself; NULL: only an operator ends it
    constraint destinations_pkey PRIMARY KEY (ae_title)

table dramatiq.consumers
    id bigint NOT NULL
    host text NOT NULL
    pid integer NOT NULL
    queues text[] NOT NULL
    threads integer NOT NULL
    started_at timestamp with time zone NOT NULL DEFAULT now()
    stopping_since timestamp with time zone
    constraint consumers_pkey PRIMARY KEY (id)

table dramatiq.queue
    message_id uuid NOT NULL
    queue_name text NOT NULL DEFAULT 'default'::text
    state dramatiq.state NOT NULL DEFAULT 'queued'::dramatiq.state
    mtime timestamp with time zone NOT NULL DEFAULT now()
    message jsonb NOT NULL
    result jsonb
    result_ttl timestamp with time zone
    priority smallint NOT NULL DEFAULT 4
    due timestamp with time zone NOT NULL DEFAULT now()
    consumer bigint
    started_at timestamp with time zone
    deaths smallint NOT NULL DEFAULT 0
    alone boolean NOT NULL DEFAULT false
    freed_from bigint
    failures smallint NOT NULL DEFAULT 0
    delivery_id bigint
    reason text
    never_ahead boolean NOT NULL DEFAULT false
    constraint queue_consumed_by_somebody CHECK (((state = 'consumed'::dramatiq.state) = (consumer IS NOT NULL)))
    constraint queue_pkey PRIMARY KEY (message_id)
    constraint queue_priority CHECK (((priority >= '-1'::integer) AND (priority <= 7)))
    CREATE INDEX queue_alone ON dramatiq.queue USING btree (queue_name, due) WHERE ((state = 'queued'::dramatiq.state) AND alone)
    CREATE INDEX queue_claim ON dramatiq.queue USING btree (queue_name, priority, due) WHERE ((state = 'queued'::dramatiq.state) AND (NOT alone))
    CREATE INDEX queue_consumed ON dramatiq.queue USING btree (consumer) WHERE (state = 'consumed'::dramatiq.state)
    CREATE INDEX queue_dead ON dramatiq.queue USING btree (queue_name, mtime) WHERE (state = 'rejected'::dramatiq.state)
    CREATE INDEX queue_delivery ON dramatiq.queue USING btree (delivery_id) WHERE (delivery_id IS NOT NULL)
    CREATE TRIGGER queue_dead_with_its_delivery AFTER UPDATE OF state ON dramatiq.queue FOR EACH ROW WHEN (((new.delivery_id IS NOT NULL) AND (old.state <> new.state) AND ((new.state = 'rejected'::dramatiq.state) OR ((old.state = 'rejected'::dramatiq.state) AND (new.state = 'queued'::dramatiq.state))))) EXECUTE FUNCTION follow_message()

table dramatiq.rates
    minute timestamp with time zone NOT NULL
    queue_name text NOT NULL
    actor_name text NOT NULL
    arrived bigint NOT NULL DEFAULT 0
    done bigint NOT NULL DEFAULT 0
    failed bigint NOT NULL DEFAULT 0
    seconds double precision NOT NULL DEFAULT 0
    constraint rates_pkey PRIMARY KEY (minute, queue_name, actor_name)

table expected_results
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    delivery_id bigint NOT NULL
    instance_id bigint NOT NULL
    worker text NOT NULL
    claim_id uuid NOT NULL
    state expectation_state NOT NULL DEFAULT 'owed'::expectation_state
    asked_at timestamp with time zone NOT NULL DEFAULT now()
    due_at timestamp with time zone NOT NULL
    arrived_at timestamp with time zone
    result_instance_id bigint
    message_id uuid
    constraint expected_results_delivery_id_fkey FOREIGN KEY (delivery_id) REFERENCES deliveries(id) ON DELETE CASCADE
    constraint expected_results_instance_id_fkey FOREIGN KEY (instance_id) REFERENCES instances(id) ON DELETE CASCADE
    constraint expected_results_pkey PRIMARY KEY (id)
    constraint expected_results_result_instance_id_fkey FOREIGN KEY (result_instance_id) REFERENCES instances(id) ON DELETE SET NULL
    CREATE INDEX expected_results_by_delivery ON public.expected_results USING btree (delivery_id)
    CREATE INDEX expected_results_by_instance ON public.expected_results USING btree (instance_id)
    CREATE INDEX expected_results_by_result ON public.expected_results USING btree (result_instance_id)
    CREATE INDEX expected_results_owed ON public.expected_results USING btree (worker, due_at) WHERE (state = 'owed'::expectation_state)
    CREATE INDEX expected_results_timed_out ON public.expected_results USING btree (delivery_id) WHERE (state = 'timed_out'::expectation_state)
    CREATE TRIGGER results_are_counted AFTER UPDATE OF state ON public.expected_results FOR EACH ROW WHEN ((old.state <> new.state)) EXECUTE FUNCTION count_result()

table faults
    name text NOT NULL
    value double precision
    stage text
    until timestamp with time zone
    injected_at timestamp with time zone NOT NULL DEFAULT now()
    injected_by text NOT NULL
    constraint faults_pkey PRIMARY KEY (name)

table findings
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    key text NOT NULL
    severity text NOT NULL
    what text NOT NULL
    means text NOT NULL
    remedy text NOT NULL
    holds_back text NOT NULL
    opened_at timestamp with time zone NOT NULL DEFAULT now()
    seen_at timestamp with time zone NOT NULL DEFAULT now() -- when the last examination found it
    closed_at timestamp with time zone
    told_open_at timestamp with time zone -- when the webhook or the mail was told that it opened; NULL: not yet, or it never lasted long enough
    told_closed_at timestamp with time zone
    constraint findings_pkey PRIMARY KEY (id)
    constraint findings_severity CHECK ((severity = ANY (ARRAY['problem'::text, 'note'::text])))
    CREATE INDEX findings_closed ON public.findings USING btree (closed_at) WHERE (closed_at IS NOT NULL)
    CREATE UNIQUE INDEX findings_open ON public.findings USING btree (key) WHERE (closed_at IS NULL)

table history_instances
    series_id bigint NOT NULL
    received_at timestamp with time zone NOT NULL
    repeats integer NOT NULL
    sop_instance_uid text NOT NULL
    outcomes jsonb NOT NULL -- by destination: its state, when it was settled, the last status
    constraint history_instances_series_id_fkey FOREIGN KEY (series_id) REFERENCES history_series(id) ON DELETE CASCADE
    CREATE INDEX history_instances_by_series ON public.history_instances USING btree (series_id)
    CREATE INDEX history_instances_by_uid ON public.history_instances USING hash (sop_instance_uid)

table history_series
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    study_id bigint NOT NULL
    series_instance_uid text NOT NULL
    calling_ae_title text NOT NULL
    remote_address text NOT NULL
    kind instance_kind NOT NULL
    constraint history_series_one_per_sender UNIQUE (study_id, series_instance_uid, calling_ae_title, remote_address, kind)
    constraint history_series_pkey PRIMARY KEY (id)
    constraint history_series_study_id_fkey FOREIGN KEY (study_id) REFERENCES history_studies(id) ON DELETE CASCADE
    CREATE INDEX history_series_by_sender ON public.history_series USING btree (calling_ae_title, id)
    CREATE INDEX history_series_by_uid ON public.history_series USING hash (series_instance_uid)

table history_studies
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    study_instance_uid text NOT NULL
    first_received_at timestamp with time zone NOT NULL
    last_received_at timestamp with time zone NOT NULL
    purged_at timestamp with time zone NOT NULL DEFAULT now() -- when its last instance was purged
    constraint history_studies_one_per_uid UNIQUE (study_instance_uid)
    constraint history_studies_pkey PRIMARY KEY (id)
    CREATE INDEX history_studies_by_time ON public.history_studies USING btree (last_received_at)

table instances
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    sop_instance_uid text NOT NULL
    study_instance_uid text NOT NULL
    series_instance_uid text NOT NULL
    sop_class_uid text NOT NULL
    transfer_syntax_uid text NOT NULL
    sha256 bytea NOT NULL
    data_set_size bigint NOT NULL
    calling_ae_title text NOT NULL
    called_ae_title text NOT NULL
    remote_address text NOT NULL
    kind instance_kind NOT NULL
    conflict boolean NOT NULL DEFAULT false
    correlation correlation
    late boolean NOT NULL DEFAULT false
    place instance_place NOT NULL DEFAULT 'incoming'::instance_place
    file_name text NOT NULL
    received_at timestamp with time zone NOT NULL DEFAULT now()
    repeats integer NOT NULL DEFAULT 0
    repeated_at timestamp with time zone
    versioned boolean NOT NULL DEFAULT false -- more than one version of its SOP Instance UID was received
    returned integer NOT NULL DEFAULT 0 -- how often a repeat that perhaps came from the PACS was sent to the PACS again
    unforwarded integer NOT NULL DEFAULT 0 -- how many repeats were not forwarded; unforwarded_at and unforwarded_from are those of the last one
    unforwarded_at timestamp with time zone
    unforwarded_from text
    reception_id uuid -- the reception that brought the file; NULL: received by a version before 0.3.0
    constraint instances_one_per_content UNIQUE (sop_instance_uid, sha256)
    constraint instances_one_per_file UNIQUE (study_instance_uid, file_name)
    constraint instances_pkey PRIMARY KEY (id)
    constraint instances_sha256_is_a_digest CHECK ((octet_length(sha256) = 32))
    constraint instances_sop_instance_uid_is_a_uid CHECK (((length(sop_instance_uid) <= 64) AND (sop_instance_uid ~ '^[0-9][0-9.]*$'::text))) NOT VALID
    constraint instances_study_instance_uid_is_a_uid CHECK (((length(study_instance_uid) <= 128) AND (study_instance_uid ~ '^[0-9][0-9.]*$'::text))) NOT VALID
    CREATE INDEX instances_by_series ON public.instances USING btree (series_instance_uid)
    CREATE INDEX instances_by_time ON public.instances USING btree (received_at)
    CREATE INDEX instances_conflicts ON public.instances USING btree (received_at, id) WHERE conflict
    CREATE INDEX instances_flagged ON public.instances USING btree (correlation) WHERE (late OR (correlation = ANY (ARRAY['ambiguous'::correlation, 'unmatched'::correlation])))
    CREATE INDEX instances_unforwarded ON public.instances USING btree (unforwarded_at) WHERE (unforwarded_at IS NOT NULL)
    CREATE TRIGGER instances_prolong_units AFTER UPDATE OF repeated_at ON public.instances FOR EACH ROW WHEN ((old.repeated_at IS DISTINCT FROM new.repeated_at)) EXECUTE FUNCTION prolong_units()
    CREATE TRIGGER instances_versioned BEFORE INSERT ON public.instances FOR EACH ROW WHEN (new.conflict) EXECUTE FUNCTION flag_versions()

table last_successes
    destination text NOT NULL
    succeeded_at timestamp with time zone NOT NULL
    constraint last_successes_pkey PRIMARY KEY (destination)

table notify_endpoints
    endpoint text NOT NULL
    failing_since timestamp with time zone -- NULL if it took the last message
    last_error text
    failures integer NOT NULL DEFAULT 0 -- how many messages in a row it did not take
    constraint notify_endpoints_pkey PRIMARY KEY (endpoint)

table processes
    id uuid NOT NULL
    kind text NOT NULL
    serves text NOT NULL -- for people: AE title and port, or the queue
    host text NOT NULL
    pid integer NOT NULL
    os_user text NOT NULL
    version text NOT NULL
    started_at timestamp with time zone NOT NULL
    beat_at timestamp with time zone NOT NULL -- its last heartbeat, by the clock of PostgreSQL
    server_process integer NOT NULL -- the server process of the connection that wrote the row
    server_started_at timestamp with time zone -- when that server process started: its number may be used again later
    consumer_id bigint -- of an actor process: the id whose lock it holds, in dramatiq.consumers
    configuration_digest text -- of the config.yaml that it uses; NULL if it uses none
    restart_for text[] NOT NULL DEFAULT '{}'::text[] -- keys of that config.yaml that it takes only at its next start
    answered bigint -- the proposed version of the configuration that it answered last
    answer text -- why it cannot take that version; NULL if it can
    spool_name uuid -- name and epoch that it reads in spool.id; NULL if it cannot read them
    spool_epoch integer
    spool_problem text -- why its own user cannot write the spool; NULL if it can
    clock_offset_ms double precision -- its clock minus that of PostgreSQL
    figures jsonb NOT NULL DEFAULT '{}'::jsonb -- CPU seconds since its start, memory, open files, associations
    constraint processes_kind CHECK ((kind = ANY (ARRAY['serve'::text, 'receiver'::text, 'actors'::text, 'scheduler'::text])))
    constraint processes_pkey PRIMARY KEY (id)

table refusals
    minute timestamp with time zone NOT NULL
    kind text NOT NULL -- connection, tls, timeout, broken, association, context or c_store
    reason text NOT NULL -- a word of a fixed list; empty titles: the peer had named none yet
    calling_ae_title text NOT NULL
    called_ae_title text NOT NULL
    remote_address text NOT NULL
    count bigint NOT NULL
    first_at timestamp with time zone NOT NULL
    last_at timestamp with time zone NOT NULL
    status integer
    detail text
    last_uid text -- of the last one: a SOP Instance UID, or the SOP Class UID of a context
    constraint refusals_pkey PRIMARY KEY (minute, kind, reason, calling_ae_title, called_ae_title, remote_address)
    CREATE INDEX refusals_by_time ON public.refusals USING btree (last_at)

table refused_instances
    sop_instance_uid text NOT NULL
    study_instance_uid text NOT NULL -- empty where the data set could not be read so far
    calling_ae_title text NOT NULL
    remote_address text NOT NULL
    reason text NOT NULL
    status integer NOT NULL
    detail text
    count bigint NOT NULL
    first_at timestamp with time zone NOT NULL
    last_at timestamp with time zone NOT NULL
    constraint refused_instances_pkey PRIMARY KEY (sop_instance_uid, calling_ae_title, remote_address, reason)
    CREATE INDEX refused_instances_by_study ON public.refused_instances USING btree (study_instance_uid) WHERE (study_instance_uid <> ''::text)
    CREATE INDEX refused_instances_by_time ON public.refused_instances USING btree (last_at)

table repeats
    reception_id uuid NOT NULL
    instance_id bigint NOT NULL
    registered_at timestamp with time zone NOT NULL DEFAULT now()
    constraint repeats_instance_id_fkey FOREIGN KEY (instance_id) REFERENCES instances(id) ON DELETE CASCADE
    constraint repeats_pkey PRIMARY KEY (reception_id)
    CREATE INDEX repeats_by_instance ON public.repeats USING btree (instance_id)
    CREATE INDEX repeats_by_time ON public.repeats USING btree (registered_at)

table result_sources
    result_instance_id bigint NOT NULL
    source_instance_id bigint NOT NULL
    worker text NOT NULL
    constraint result_sources_pkey PRIMARY KEY (result_instance_id, source_instance_id)
    constraint result_sources_result_instance_id_fkey FOREIGN KEY (result_instance_id) REFERENCES instances(id) ON DELETE CASCADE
    constraint result_sources_source_instance_id_fkey FOREIGN KEY (source_instance_id) REFERENCES instances(id) ON DELETE CASCADE
    CREATE INDEX result_sources_by_source ON public.result_sources USING btree (source_instance_id)

table rule_versions
    digest bytea NOT NULL
    rules text NOT NULL -- JSON: each target with its rule, or null if it accepts everything
    first_used timestamp with time zone NOT NULL DEFAULT now()
    constraint rule_versions_pkey PRIMARY KEY (digest)

table schema_migrations
    version text NOT NULL
    digest text NOT NULL
    applied_at timestamp with time zone NOT NULL DEFAULT now()
    additive boolean NOT NULL DEFAULT true
    constraint schema_migrations_pkey PRIMARY KEY (version)

table search_hashes
    hash bytea NOT NULL
    study_instance_uid text NOT NULL
    series_instance_uid text NOT NULL
    constraint search_hashes_is_a_digest CHECK ((octet_length(hash) = 32))
    constraint search_hashes_pkey PRIMARY KEY (hash, series_instance_uid)
    CREATE INDEX search_hashes_by_study ON public.search_hashes USING btree (study_instance_uid)

table spool
    is_only boolean NOT NULL DEFAULT true
    name uuid NOT NULL -- that of spool.id in the spool
    epoch integer NOT NULL -- that of spool.id; reset-db begins a new one
    seen_at timestamp with time zone NOT NULL DEFAULT clock_timestamp() -- the last time mark; the spool gets it afterwards, so an older one here is that of a backup
    constraint spool_one_row CHECK (is_only)
    constraint spool_pkey PRIMARY KEY (is_only)

table suspects
    ae_title text NOT NULL
    instance_id bigint NOT NULL
    study_instance_uid text NOT NULL
    calling_ae_title text NOT NULL
    sender_is_well boolean NOT NULL DEFAULT false -- an instance of another study of its sender was delivered since
    failed_at timestamp with time zone NOT NULL DEFAULT now()
    constraint suspects_pkey PRIMARY KEY (ae_title, instance_id)

table sweep_cursors
    part text NOT NULL
    "position" text NOT NULL -- everything up to here was looked at in this pass; empty: the next pass begins
    began_at timestamp with time zone NOT NULL DEFAULT now() -- when this pass began
    constraint sweep_cursors_pkey PRIMARY KEY (part)

table sweeps
    verb text NOT NULL
    ran_at timestamp with time zone NOT NULL DEFAULT now()
    counts jsonb NOT NULL
    constraint sweeps_pkey PRIMARY KEY (verb)

table unit_dispatches
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    unit_id bigint NOT NULL
    worker text NOT NULL
    claim_id uuid NOT NULL
    began_at timestamp with time zone NOT NULL DEFAULT now()
    ended_at timestamp with time zone
    outcome text -- sent, an outcome of gateway/domain/outcome.py, lost or fenced; NULL while it is sent
    instances integer
    error text
    timed_out_at timestamp with time zone
    result_at timestamp with time zone -- when its last result was received
    result_instance_id bigint
    constraint unit_dispatches_one_per_claim UNIQUE (claim_id)
    constraint unit_dispatches_pkey PRIMARY KEY (id)
    constraint unit_dispatches_unit_id_fkey FOREIGN KEY (unit_id) REFERENCES units(id) ON DELETE CASCADE
    CREATE INDEX unit_dispatches_by_unit ON public.unit_dispatches USING btree (unit_id)

table units
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
    application text NOT NULL
    unit text NOT NULL
    study_instance_uid text NOT NULL
    uid text NOT NULL -- the Series Instance UID, or the Study Instance UID
    generation integer NOT NULL
    state unit_state NOT NULL DEFAULT 'collecting'::unit_state
    priority smallint NOT NULL
    first_at timestamp with time zone NOT NULL DEFAULT now()
    last_at timestamp with time zone NOT NULL DEFAULT now() -- when the last instance of it, or a repeat, was registered
    completed_at timestamp with time zone
    completed_by text -- quiet, max_wait, configuration, or the operator
    worker text
    claim_id uuid
    claimed_by bigint
    lease_until timestamp with time zone
    next_attempt_at timestamp with time zone -- when its message is due; while sent, the deadline of its result
    message_id uuid
    failures integer NOT NULL DEFAULT 0
    redispatches integer NOT NULL DEFAULT 0
    sent_at timestamp with time zone -- when it was sent whole for the last time
    settled_at timestamp with time zone
    result_instance_id bigint
    last_error text
    constraint units_one_per_generation UNIQUE (application, study_instance_uid, uid, generation)
    constraint units_pkey PRIMARY KEY (id)
    constraint units_sending_is_claimed CHECK (((state = 'sending'::unit_state) = (claim_id IS NOT NULL)))
    CREATE INDEX units_by_study ON public.units USING btree (study_instance_uid)
    CREATE INDEX units_by_worker ON public.units USING btree (worker) WHERE (state = ANY (ARRAY['sending'::unit_state, 'sent'::unit_state]))
    CREATE INDEX units_unsettled ON public.units USING btree (application, state, next_attempt_at) WHERE (state = ANY (ARRAY['collecting'::unit_state, 'complete'::unit_state, 'sending'::unit_state, 'sent'::unit_state]))
    CREATE TRIGGER units_transition BEFORE UPDATE OF state ON public.units FOR EACH ROW WHEN (((old.state <> new.state) AND (((((((((((((((((old.state <> 'collecting'::unit_state) OR (new.state <> 'complete'::unit_state)) AND ((old.state <> 'complete'::unit_state) OR (new.state <> 'sending'::unit_state))) AND ((old.state <> 'complete'::unit_state) OR (new.state <> 'answered'::unit_state))) AND ((old.state <> 'complete'::unit_state) OR (new.state <> 'superseded'::unit_state))) AND ((old.state <> 'complete'::unit_state) OR (new.state <> 'cancelled'::unit_state))) AND ((old.state <> 'sending'::unit_state) OR (new.state <> 'sent'::unit_state))) AND ((old.state <> 'sending'::unit_state) OR (new.state <> 'answered'::unit_state))) AND ((old.state <> 'sending'::unit_state) OR (new.state <> 'complete'::unit_state))) AND ((old.state <> 'sending'::unit_state) OR (new.state <> 'dead'::unit_state))) AND ((old.state <> 'sending'::unit_state) OR (new.state <> 'cancelled'::unit_state))) AND ((old.state <> 'sent'::unit_state) OR (new.state <> 'answered'::unit_state))) AND ((old.state <> 'sent'::unit_state) OR (new.state <> 'complete'::unit_state))) AND ((old.state <> 'sent'::unit_state) OR (new.state <> 'timed_out'::unit_state))) AND ((old.state <> 'sent'::unit_state) OR (new.state <> 'superseded'::unit_state))) AND ((old.state <> 'timed_out'::unit_state) OR (new.state <> 'answered'::unit_state))) AND ((old.state <> 'timed_out'::unit_state) OR (new.state <> 'superseded'::unit_state))))) EXECUTE FUNCTION refuse_unit_transition()

table unmatched_references
    result_id bigint NOT NULL
    uid text NOT NULL
    constraint unmatched_references_pkey PRIMARY KEY (uid, result_id)
    constraint unmatched_references_result_id_fkey FOREIGN KEY (result_id) REFERENCES instances(id) ON DELETE CASCADE
    CREATE INDEX unmatched_references_by_result ON public.unmatched_references USING btree (result_id)

function add_counts(text[],jsonb[],double precision[],timestamp with time zone[]) -> void
function answer_units(bigint,bigint[],text[],text[]) -> record
function call_parked(text,integer) -> integer
function call_waiting(text,integer) -> void
function claim_for_worker(bigint,bigint,interval,interval,boolean,interval,text,text,text) -> record
function claim_for_workers(bigint[],text,bigint,interval,interval,text,text) -> SETOF deliveries
function claim_unit(bigint,bigint,interval,timestamp with time zone,interval) -> record
function claim_version(bigint,bigint,interval,text) -> uuid
function claim_with_worker(bigint,bigint,interval,interval,boolean,interval,text,text,text) -> TABLE(verdict text, delivery_id bigint, claim_id text, attempts integer, refusals integer, owed_for interval, destination text, target text, instance_id bigint, sop_instance_uid text, study_instance_uid text, sop_class_uid text, transfer_syntax_uid text, sha256 text, data_set_size bigint, file_name text, conflict boolean, place text)
function collect_again() -> trigger
function collect_deliveries() -> trigger
function comes_before(deliveries,bigint) -> boolean
function count_attempts() -> trigger
function count_cancellation() -> trigger
function count_result() -> trigger
function discard_dead_messages() -> trigger
function dramatiq.consumer_alive(bigint) -> boolean
function dramatiq.document(uuid,text,text,jsonb) -> jsonb
function dramatiq.new_id(timestamp with time zone) -> uuid
function dramatiq.room(text,integer) -> integer
function dramatiq.send(text,text,jsonb,integer,timestamp with time zone,bigint) -> uuid
function expire_expectation(bigint,integer,interval,text,text,text) -> record
function expire_unit(bigint,integer,text,text) -> record
function flag_versions() -> trigger
function fold_counts(double precision[],double precision[],integer) -> boolean
function follow_message() -> trigger
function forward_actor(route) -> text
function is_in_turn(bigint) -> boolean
function is_suspect(text,bigint) -> boolean
function join_unit(text,text,text,bigint[],boolean) -> void
function lock_versions(text) -> void
function name_target() -> trigger
function other_versions(bigint) -> SETOF deliveries
function owe_delivery_last(bigint,text,integer,timestamp with time zone) -> boolean
function owe_last(bigint,route,text,integer) -> boolean
function owe_newer_versions(units) -> boolean
function owe_newest_after_unsettled() -> trigger
function owe_newest_again(bigint) -> void
function park_delivery(bigint,uuid,text,text,interval,text) -> record
function place_of(bigint) -> instance_place
function prolong_units() -> trigger
function put_before_later_versions(bigint) -> void
function queue_of(route,text) -> text
function receive_instance(text,text,text,text,text,bytea,bigint,text,text,text,instance_kind,text,route[],text[],integer,interval) -> record
function receive_instance_from(text,text,text,text,text,bytea,bigint,text,text,text,instance_kind,text,route[],text[],integer,text,text,interval) -> record
function receive_instances(text[],text[],text[],text[],text[],bytea[],bigint[],text[],text[],text[],instance_kind[],text[],text[],text[],integer[],interval) -> TABLE("position" integer, instance_id bigint, verdict text, kept_file_name text, kept_place instance_place)
function receive_instances_from(text[],text[],text[],text[],text[],bytea[],bigint[],text[],text[],text[],instance_kind[],text[],text[],text[],integer[],text[],text,interval) -> TABLE("position" integer, instance_id bigint, verdict text, kept_file_name text, kept_place instance_place, kept_kind instance_kind)
function record_correlations(jsonb) -> TABLE("position" integer, correlation correlation, late boolean, is_older boolean, late_deliveries bigint[])
function refuse_change_of_activity() -> trigger
function refuse_transition() -> trigger
function refuse_unit_transition() -> trigger
function register_reception(text,text,text,text,text,bytea,bigint,text,text,text,instance_kind,text,route[],text[],text[],integer,text,route[],text[],text[],interval,uuid,timestamp with time zone) -> record
function register_receptions(text[],text[],text[],text[],text[],bytea[],bigint[],text[],text[],text[],instance_kind[],text[],text[],text[],text[],integer[],text[],route[],text[],text[],interval,uuid[],timestamp with time zone[]) -> TABLE("position" integer, instance_id bigint, verdict text, kept_file_name text, kept_place instance_place, kept_kind instance_kind)
function require_spool(uuid,integer,timestamp with time zone) -> void
function settle_deliveries(bigint[],uuid[],bigint[],text[],integer[],double precision[],interval[],uuid[],bigint[],timestamp with time zone[]) -> TABLE("position" integer, done boolean, settled boolean, place_before instance_place, place_after instance_place)
function settle_delivery(bigint,uuid,delivery_state,boolean,boolean,interval,integer,text,text,integer,text,double precision,text,interval) -> record
function settle_unit(bigint,uuid,boolean,boolean,boolean,text,text,interval,interval,timestamp with time zone,text,text,bigint[],text[],integer[],text[],double precision[]) -> boolean
function take_turn(bigint,text) -> record
function unit_members(units) -> SETOF deliveries
function version_before(bigint) -> bigint
function version_number(bigint) -> bigint
function version_order(deliveries) -> bigint
function wake_next_unit(text) -> void
function wake_unit_at(units,timestamp with time zone) -> uuid
function wake_versions() -> trigger
