-- What operators did, by command line or console; the accounts and sessions of the console, and its long actions.

CREATE TABLE activity (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT activity_pkey PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    who text NOT NULL CONSTRAINT activity_who_is_named CHECK (length(who) BETWEEN 1 AND 200),
    via text NOT NULL CONSTRAINT activity_via_is_known CHECK (via IN ('cli', 'console')),
    address text NOT NULL CONSTRAINT activity_address_is_short CHECK (length(address) <= 200),
    verb text NOT NULL CONSTRAINT activity_verb_is_a_word CHECK (verb ~ '^[a-z][a-z_-]{0,39}$'),
    target text NOT NULL CONSTRAINT activity_target_is_short CHECK (length(target) <= 500),
    count bigint,
    outcome text NOT NULL CONSTRAINT activity_outcome_is_short CHECK (length(outcome) <= 500)
);
COMMENT ON TABLE activity IS 'append-only; reset-db spares it; no attribute of a patient';
COMMENT ON COLUMN activity.address IS 'the host of a command, or the address of a browser';
COMMENT ON COLUMN activity.count IS 'how many deliveries, messages or faults; NULL where nothing is counted';

-- Raise an error. The triggers of `activity` call this for UPDATE, DELETE and TRUNCATE: a record of what somebody did stays
-- as it was written, whoever asks.
CREATE OR REPLACE FUNCTION refuse_change_of_activity() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'activity is append-only: % is refused', TG_OP
        USING ERRCODE = 'insufficient_privilege', TABLE = 'activity';
END $$;
CREATE TRIGGER activity_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON activity
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_activity();

CREATE TABLE console_users (
    name text NOT NULL CONSTRAINT console_users_pkey PRIMARY KEY
        CONSTRAINT console_users_name_is_plain CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$'),
    role text NOT NULL CONSTRAINT console_users_role_is_known CHECK (role IN ('viewer', 'operator', 'admin')),
    password_hash text,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    used_at timestamptz,
    failures integer NOT NULL DEFAULT 0,
    locked_until timestamptz
);
COMMENT ON COLUMN console_users.password_hash IS 'argon2id; NULL: only a reverse proxy signs this account in';

CREATE TABLE console_sessions (
    token_hash bytea NOT NULL CONSTRAINT console_sessions_pkey PRIMARY KEY
        CONSTRAINT console_sessions_is_a_digest CHECK (octet_length(token_hash) = 32),
    name text NOT NULL CONSTRAINT console_sessions_name_fkey REFERENCES console_users ON DELETE CASCADE,
    address text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN console_sessions.token_hash IS 'SHA-256 of the cookie';
CREATE INDEX console_sessions_by_name ON console_sessions (name);

CREATE TABLE console_failures (
    address text NOT NULL CONSTRAINT console_failures_pkey PRIMARY KEY,
    failures integer NOT NULL,
    last_at timestamptz NOT NULL,
    locked_until timestamptz
);
COMMENT ON TABLE console_failures IS 'failed sign-ins by address, over the last hour';

CREATE TABLE console_actions (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT console_actions_pkey PRIMARY KEY,
    who text NOT NULL,
    address text NOT NULL,
    verb text NOT NULL,
    target text NOT NULL,
    total bigint NOT NULL,
    done bigint NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT 'running'
        CONSTRAINT console_actions_state_is_known CHECK (state IN ('running', 'done', 'stopped', 'failed')),
    note text NOT NULL DEFAULT '',
    began_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE console_actions IS 'actions that run in the background, in slices; each slice adds to done in its transaction';

-- What waited in each minute, for the charts of the console; the examination of each minute adds a row for each target.
CREATE TABLE backlog_minutes (
    minute timestamptz NOT NULL,
    target text NOT NULL,
    waiting bigint NOT NULL,
    dead bigint NOT NULL,
    CONSTRAINT backlog_minutes_pkey PRIMARY KEY (minute, target)
);
COMMENT ON TABLE backlog_minutes IS 'kept for two days, as counter_minutes';
COMMENT ON COLUMN backlog_minutes.waiting IS 'deliveries that are collecting, pending or in flight, counted up to a limit';
