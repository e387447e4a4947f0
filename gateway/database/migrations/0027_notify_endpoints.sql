-- What the webhook and the mail server of `notify` did with the last messages. A message that nobody takes is told here: the
-- endpoint that should tell it does not work.
CREATE TABLE notify_endpoints (
    endpoint text CONSTRAINT notify_endpoints_pkey PRIMARY KEY,
    failing_since timestamptz,
    last_error text,
    failures integer NOT NULL DEFAULT 0);
COMMENT ON TABLE notify_endpoints IS 'one row for each endpoint of notify that was used; gateway/database/tables/findings.py';
COMMENT ON COLUMN notify_endpoints.failing_since IS 'NULL if it took the last message';
COMMENT ON COLUMN notify_endpoints.failures IS 'how many messages in a row it did not take';
