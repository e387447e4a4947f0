-- Return the place of a delivery in the order of the versions of its UID.
CREATE OR REPLACE FUNCTION version_order(d deliveries) RETURNS bigint LANGUAGE sql IMMUTABLE AS
    'SELECT coalesce(d.owed_order, d.id)';
