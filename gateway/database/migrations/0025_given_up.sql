-- Operators look for dead and cancelled deliveries by state, the newest first. A delivery that is neither, nearly every one, is
-- not in this index, so it costs receiving and sending nothing.
CREATE INDEX deliveries_given_up ON deliveries (state, id) WHERE state IN ('dead', 'cancelled');
