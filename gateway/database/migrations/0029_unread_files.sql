-- Attempts that failed because of the file in the spool, for the finding that says so. Few rows ever have these outcomes.

CREATE INDEX attempts_without_file ON attempts (delivery_id) WHERE outcome IN ('lost_file', 'not_read');
