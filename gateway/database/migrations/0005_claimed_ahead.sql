-- A death counts against the messages that were started, not against those that were only claimed ahead.
--
-- What is claimed ahead has no started_at. When its process dies it is not known whether it was handed out by then, so
-- that death is not counted; from then on it is claimed for an idle thread only, and the next one is.
ALTER TABLE dramatiq.queue ADD COLUMN never_ahead boolean NOT NULL DEFAULT false;
