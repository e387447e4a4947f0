-- Fail with MP001 unless this database belongs to that spool, in that epoch, and is not older than its time mark
-- (gateway/domain/pairing.py). Until the transaction ends, no new epoch begins. Sent in front of a registration, it costs
-- no round trip. The caller reads the marks of the spool before.
CREATE OR REPLACE FUNCTION require_spool(p_name uuid, p_epoch integer, p_seen_at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('epoch of the spool', 1));
    IF NOT EXISTS (SELECT FROM spool s WHERE s.name = p_name AND s.epoch = p_epoch
                   AND (p_seen_at IS NULL OR s.seen_at >= p_seen_at)) THEN
        RAISE EXCEPTION 'the database does not belong to spool %, epoch %', p_name, p_epoch USING ERRCODE = 'MP001';
    END IF;
END $$;
