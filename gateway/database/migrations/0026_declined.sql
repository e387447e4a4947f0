-- When an archive stopped to accept a transfer syntax, for the finding that says so.

ALTER TABLE accepted_syntaxes ADD COLUMN declined_at timestamptz;
COMMENT ON COLUMN accepted_syntaxes.declined_at IS 'since when it is declined, if it was accepted before';
