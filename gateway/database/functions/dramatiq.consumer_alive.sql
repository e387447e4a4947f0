-- Whether a consumer lives: PostgreSQL holds the advisory lock of its id as long as its connection.
CREATE OR REPLACE FUNCTION dramatiq.consumer_alive(id bigint) RETURNS boolean
LANGUAGE sql VOLATILE AS 'SELECT EXISTS (SELECT FROM dramatiq.live WHERE live.id = consumer_alive.id)';
