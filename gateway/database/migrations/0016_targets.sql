-- breaking: stop the sweep and the actors of the version before
-- A delivery is owed to a target: an archive by its AE title, or an application by its name. Until now there were one PACS
-- and one list of workers, which becomes the application `default`.
--
-- The new value of the enum cannot be used before this transaction is committed: 0017 writes the functions that use it.
ALTER TYPE route ADD VALUE 'archives';

-- Every row gets 'default' without being written; only the rows of the PACS are written.
ALTER TABLE deliveries ADD COLUMN target text NOT NULL DEFAULT 'default';
UPDATE deliveries SET target = coalesce(
        (SELECT x.ae_title FROM destinations x WHERE x.route = 'pacs' ORDER BY x.configured DESC LIMIT 1), 'PACS')
    WHERE route = 'pacs';
ALTER TABLE deliveries ALTER COLUMN target DROP DEFAULT;
COMMENT ON COLUMN deliveries.target IS 'the AE title of an archive, or the name of an application';

-- The name of the constraint stays: functions that version 0.2.0 calls name it.
ALTER TABLE deliveries DROP CONSTRAINT deliveries_one_per_route;
ALTER TABLE deliveries ADD CONSTRAINT deliveries_one_per_route UNIQUE (instance_id, route, target);

DROP INDEX deliveries_unsettled;
CREATE INDEX deliveries_unsettled ON deliveries (route, target, state, next_attempt_at)
    WHERE state IN ('pending', 'in_flight', 'dead');

-- Which workers serve an application, and how many results each may have outstanding to get an instance of it. A worker
-- may serve several.
CREATE TABLE application_workers (
    application text NOT NULL,
    ae_title text NOT NULL,
    max_outstanding integer NOT NULL,
    CONSTRAINT application_workers_pkey PRIMARY KEY (application, ae_title));
INSERT INTO application_workers
    SELECT 'default', ae_title, coalesce(full_outstanding, max_outstanding) FROM destinations
    WHERE route = 'workers' AND configured;

-- What the archives answered when they were asked which transfer syntaxes they accept.
CREATE TABLE accepted_syntaxes (
    ae_title text NOT NULL,
    transfer_syntax_uid text NOT NULL,
    accepted boolean NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT accepted_syntaxes_pkey PRIMARY KEY (ae_title, transfer_syntax_uid));
