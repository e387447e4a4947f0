-- Return an id for a message that is due then. Ids sort by the time when the messages are due.
--
-- A claim writes a new version of a message's row, and with it a new entry in the index of the primary key. Ids that
-- start with the due time put messages that are claimed together side by side in this index. If ids started with the
-- time of creation, each claim of a night's retries would change a different page, and PostgreSQL would log that page
-- whole.
--
-- An id is a UUID version 7 (RFC 9562 §5.7), whose time may be altered (§6.1). No code reads the time from an id. Ids
-- from before migration 0003 start with the time of creation.
CREATE OR REPLACE FUNCTION dramatiq.new_id(due timestamptz) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    -- 48 bits of milliseconds since 1970; an infinite due time has none
    millis bigint := CASE WHEN isfinite(due)
        THEN least(greatest((extract(epoch FROM due) * 1000)::bigint, 0), 281474976710655)
        ELSE 281474976710655 END;
BEGIN
    RETURN encode(
        set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid()) PLACING substring(int8send(millis) FROM 3) FROM 1 FOR 6),
            52, 1), 53, 1),
        'hex')::uuid;
END $$;
