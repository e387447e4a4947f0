-- The queue: the type and table of dramatiq-pg 0.12, and what our consumer adds to them.
--
-- dramatiq-pg's columns keep their names, types and meaning, so that its message format stays readable to
-- it. Its index on (state, mtime) is left out: it served the deletion of finished messages, and ours are
-- deleted at their ack. 'done' is therefore never seen, and 'rejected' means dead: kept until an operator
-- decides.

CREATE SCHEMA dramatiq;

CREATE TYPE dramatiq.state AS ENUM ('queued', 'consumed', 'rejected', 'done');

CREATE TABLE dramatiq.queue (
    message_id uuid PRIMARY KEY,
    queue_name text NOT NULL DEFAULT 'default',
    state dramatiq.state NOT NULL DEFAULT 'queued',
    mtime timestamptz NOT NULL DEFAULT now(),
    -- message as encoded by dramatiq
    message jsonb NOT NULL,
    result jsonb,
    result_ttl timestamptz,

    -- smaller goes first, within one priority by due; -1 passes a closed route as well
    priority smallint NOT NULL DEFAULT 4,
    -- not claimed before; the clock is the database's
    due timestamptz NOT NULL DEFAULT now(),
    -- who holds it while consumed: the id of a session advisory lock
    consumer bigint,
    -- a claim takes no more than there are idle threads, so what is claimed is started
    started_at timestamptz,
    -- how many processes died while they ran it
    deaths smallint NOT NULL DEFAULT 0,
    -- it may have killed a process: it runs with no neighbours, so that the next death is its own
    alone boolean NOT NULL DEFAULT false,
    -- the consumer at whose death it was last freed, which may prove to be alive and take the death back
    freed_from bigint,
    -- how often its actor raised
    failures smallint NOT NULL DEFAULT 0,
    -- the delivery that it is a wake-up for, if any
    delivery_id bigint,
    -- why it failed last, or why it is dead
    reason text,

    CONSTRAINT queue_priority CHECK (priority BETWEEN -1 AND 7),
    CONSTRAINT queue_consumed_by_somebody CHECK ((state = 'consumed') = (consumer IS NOT NULL))
) WITH (
    -- A claim writes a new version of the row: with room for it on the same page, where the acked ones before it
    -- are pruned meanwhile, draining a backlog does not grow the table between two vacuums.
    fillfactor = 80,
    -- A queue's rows are short-lived: vacuum goes by their number, not by a share of a backlog, and does
    -- not pause, because each dead entry at the front of the claim's index is walked by every claim.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_analyze_scale_factor = 0.2,
    autovacuum_analyze_threshold = 10000
);

-- The claim walks this from the left: per priority the oldest due first, never over what is not yet due.
CREATE INDEX queue_claim ON dramatiq.queue (queue_name, priority, due) WHERE state = 'queued' AND NOT alone;
CREATE INDEX queue_alone ON dramatiq.queue (queue_name, due) WHERE state = 'queued' AND alone;
CREATE INDEX queue_consumed ON dramatiq.queue (consumer) WHERE state = 'consumed';
CREATE INDEX queue_dead ON dramatiq.queue (queue_name, mtime) WHERE state = 'rejected';
CREATE INDEX queue_delivery ON dramatiq.queue (delivery_id) WHERE delivery_id IS NOT NULL;

-- One row per live consumer process. It is inserted after the lock of its id was taken and deleted by whoever
-- frees the messages of the dead, so a row without a lock means: dead, and not yet cleared.
CREATE TABLE dramatiq.consumers (
    id bigint PRIMARY KEY,
    host text NOT NULL,
    pid integer NOT NULL,
    queues text[] NOT NULL,
    threads integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now()
);

-- What came due and what was finished, per minute; written by the metrics of each actor process.
CREATE TABLE dramatiq.rates (
    minute timestamptz NOT NULL,
    queue_name text NOT NULL,
    actor_name text NOT NULL,
    arrived bigint NOT NULL DEFAULT 0,
    done bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    seconds double precision NOT NULL DEFAULT 0,
    PRIMARY KEY (minute, queue_name, actor_name)
) WITH (fillfactor = 50);

-- Inserts one message as Dramatiq encodes it, in the caller's transaction. It does not NOTIFY, because that
-- would serialise the commits of all receivers: who calls it wakes the queue after the commit.
CREATE FUNCTION dramatiq.send(
    queue_name text,
    actor_name text,
    args jsonb,
    priority integer DEFAULT 4,
    due timestamptz DEFAULT now(),
    delivery_id bigint DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    -- UUID version 7 (RFC 9562 §5.7): it begins with the time, so that what is received together lies together in
    -- the primary key; random ones would dirty a page of it per message, at the insert and again at the claim
    id uuid := encode(
        set_bit(set_bit(
            overlay(
                uuid_send(gen_random_uuid())
                PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                FROM 1 FOR 6
            ), 52, 1), 53, 1),
        'hex')::uuid;
BEGIN
    INSERT INTO dramatiq.queue (message_id, queue_name, message, priority, due, delivery_id)
    VALUES (
        id,
        send.queue_name,
        jsonb_build_object(
            'queue_name', send.queue_name,
            'actor_name', send.actor_name,
            'args', send.args,
            'kwargs', '{}'::jsonb,
            'options', '{}'::jsonb,
            'message_id', id,
            'message_timestamp', (extract(epoch FROM clock_timestamp()) * 1000)::bigint
        ),
        send.priority,
        send.due,
        send.delivery_id
    );
    RETURN id;
END
$$;

-- How many of `wanted` messages of a queue may be claimed now, beside those of priority -1. This one knows no
-- routes and says: all.
CREATE FUNCTION dramatiq.room(queue_name text, wanted integer) RETURNS integer
LANGUAGE sql STABLE AS 'SELECT wanted';

-- The ids whose advisory locks are held: the consumers that live.
CREATE VIEW dramatiq.live AS
SELECT (classid::bigint << 32) | objid::bigint AS id
FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database());

CREATE FUNCTION dramatiq.consumer_alive(id bigint) RETURNS boolean
LANGUAGE sql VOLATILE AS 'SELECT EXISTS (SELECT FROM dramatiq.live WHERE live.id = consumer_alive.id)';
