-- Raise an error. The triggers of `activity` call this for UPDATE, DELETE and TRUNCATE: a record of what somebody did stays
-- as it was written, whoever asks.
CREATE OR REPLACE FUNCTION refuse_change_of_activity() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'activity is append-only: % is refused', TG_OP
        USING ERRCODE = 'insufficient_privilege', TABLE = 'activity';
END $$;
