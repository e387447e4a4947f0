-- A pause of a destination may have a reason and an end.
--
-- A message of the queue `sweep` is due at the end; its actor ends the pause. The sweep does it where the message is lost.
ALTER TABLE destinations ADD COLUMN pause_reason text;
ALTER TABLE destinations ADD COLUMN paused_until timestamptz;
COMMENT ON COLUMN destinations.pause_reason IS 'why an operator paused it, in his words';
COMMENT ON COLUMN destinations.paused_until IS 'when the pause ends by itself; NULL: only an operator ends it';
