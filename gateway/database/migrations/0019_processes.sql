-- The processes of the edge, and the versions of config.yaml that they take without a restart.
--
-- Each process writes its row every few seconds. A frozen process keeps its connection and stops writing. A process that
-- is gone has no connection any more, and the others delete its row.
CREATE TABLE processes (
    id uuid CONSTRAINT processes_pkey PRIMARY KEY,
    kind text NOT NULL CONSTRAINT processes_kind CHECK (kind IN ('serve', 'receiver', 'actors', 'scheduler')),
    serves text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    os_user text NOT NULL,
    version text NOT NULL,
    started_at timestamptz NOT NULL,
    beat_at timestamptz NOT NULL,
    server_process integer NOT NULL,
    server_started_at timestamptz,
    consumer_id bigint,
    configuration_digest text,
    restart_for text[] NOT NULL DEFAULT '{}',
    answered bigint,
    answer text,
    spool_name uuid,
    spool_epoch integer,
    spool_problem text,
    clock_offset_ms double precision);
COMMENT ON TABLE processes IS 'one row for each process of the edge; gateway/database/tables/processes.py';
COMMENT ON COLUMN processes.serves IS 'for people: AE title and port, or the queue';
COMMENT ON COLUMN processes.beat_at IS 'its last heartbeat, by the clock of PostgreSQL';
COMMENT ON COLUMN processes.server_process IS 'the server process of the connection that wrote the row';
COMMENT ON COLUMN processes.server_started_at IS 'when that server process started: its number may be used again later';
COMMENT ON COLUMN processes.consumer_id IS 'of an actor process: the id whose lock it holds, in dramatiq.consumers';
COMMENT ON COLUMN processes.configuration_digest IS 'of the config.yaml that it uses; NULL if it uses none';
COMMENT ON COLUMN processes.restart_for IS 'keys of that config.yaml that it takes only at its next start';
COMMENT ON COLUMN processes.answered IS 'the proposed version of the configuration that it answered last';
COMMENT ON COLUMN processes.answer IS 'why it cannot take that version; NULL if it can';
COMMENT ON COLUMN processes.spool_name IS 'name and epoch that it reads in spool.id; NULL if it cannot read them';
COMMENT ON COLUMN processes.spool_problem IS 'why its own user cannot write the spool; NULL if it can';
COMMENT ON COLUMN processes.clock_offset_ms IS 'its clock minus that of PostgreSQL';

-- proposed -> taken     every process can take it
-- proposed -> refused   a process cannot, or the command ended before
CREATE TABLE configurations (
    version bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT configurations_pkey PRIMARY KEY,
    state text NOT NULL CONSTRAINT configurations_state CHECK (state IN ('proposed', 'taken', 'refused')),
    digest text NOT NULL,
    document text NOT NULL,
    difference text[] NOT NULL,
    proposed_by text NOT NULL,
    proposed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    decided_at timestamptz,
    reason text);
CREATE UNIQUE INDEX configurations_one_proposed ON configurations (state) WHERE state = 'proposed';
CREATE INDEX configurations_taken ON configurations (version) WHERE state = 'taken';
COMMENT ON TABLE configurations IS 'the history of config.yaml; the files are what the processes read';
COMMENT ON COLUMN configurations.digest IS 'SHA-256 of the keys and values of the file, without comments and layout';
COMMENT ON COLUMN configurations.document IS 'keys and values of the file, as YAML; secrets are left out';
COMMENT ON COLUMN configurations.difference IS 'what it changed, one sentence each';
