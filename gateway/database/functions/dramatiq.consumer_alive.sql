-- Return whether a consumer is alive. It holds an advisory lock on its id, which PostgreSQL frees when its connection
-- ends.
CREATE OR REPLACE FUNCTION dramatiq.consumer_alive(id bigint) RETURNS boolean
LANGUAGE sql VOLATILE AS 'SELECT EXISTS (SELECT FROM dramatiq.live WHERE live.id = consumer_alive.id)';
