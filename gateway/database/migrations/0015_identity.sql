-- The spool that this database belongs to. Without it, a folder whose disk is not mounted looks like a spool whose files
-- are lost, and an empty or restored database like one that knows of no debt.
CREATE TABLE spool (
    is_only boolean DEFAULT true CONSTRAINT spool_pkey PRIMARY KEY CONSTRAINT spool_one_row CHECK (is_only),
    name uuid NOT NULL,
    epoch integer NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp());
COMMENT ON TABLE spool IS 'one row, or none before spool and database were paired';
COMMENT ON COLUMN spool.name IS 'that of spool.id in the spool';
COMMENT ON COLUMN spool.epoch IS 'that of spool.id; reset-db begins a new one';
COMMENT ON COLUMN spool.seen_at IS 'the last time mark; the spool gets it afterwards, so an older one here is that of a backup';
