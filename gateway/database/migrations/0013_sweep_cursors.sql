-- Store where each part of the sweep continues in its next run.
--
-- The sweep of each minute gives each of its parts a slice of time. A part that is not finished stores how far it came. A
-- process of the version before stores nothing and does everything in one run.
CREATE TABLE sweep_cursors (
    part text PRIMARY KEY,
    position text NOT NULL,
    began_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN sweep_cursors.position IS 'everything up to here was looked at in this pass; empty: the next pass begins';
COMMENT ON COLUMN sweep_cursors.began_at IS 'when this pass began';
