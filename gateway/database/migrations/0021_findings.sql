-- What was wrong, and since when: findings that are open, and those that were closed lately.
--
-- An actor of the sweep's queue examines the edge each minute and keeps these rows up to date. They give a finding the time
-- since which it lasts, and remember what a webhook or a mail was told.
CREATE TABLE findings (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT findings_pkey PRIMARY KEY,
    key text NOT NULL,
    severity text NOT NULL CONSTRAINT findings_severity CHECK (severity IN ('problem', 'note')),
    what text NOT NULL,
    means text NOT NULL,
    remedy text NOT NULL,
    holds_back text NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    told_open_at timestamptz,
    told_closed_at timestamptz);
COMMENT ON TABLE findings IS 'one row for each time that something was wrong; gateway/database/tables/findings.py';
COMMENT ON COLUMN findings.seen_at IS 'when the last examination found it';
COMMENT ON COLUMN findings.told_open_at IS 'when the webhook or the mail was told that it opened; NULL: not yet, or it never lasted long enough';
CREATE UNIQUE INDEX findings_open ON findings (key) WHERE closed_at IS NULL;
CREATE INDEX findings_closed ON findings (closed_at) WHERE closed_at IS NOT NULL;
