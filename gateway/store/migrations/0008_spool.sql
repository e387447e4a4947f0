-- Which folder the rows speak of: the name that stands in its `spool.id` (gateway/recognize.py).
--
-- Without it a disk that was not mounted looked like a spool whose files were all lost: what was owed died of it, and new
-- instances were received onto the disk below.
CREATE TABLE spool (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id uuid NOT NULL
);
COMMENT ON TABLE spool IS 'the spool that this database belongs to; a row, or none before the first start';
