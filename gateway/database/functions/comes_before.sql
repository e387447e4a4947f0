-- Return whether `other` must be settled before a pending delivery may be sent whose place in the order is `p_order`. A
-- delivery that is collecting is sent with its series or study, at a time that nothing else decides.
CREATE OR REPLACE FUNCTION comes_before(other deliveries, p_order bigint) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT other.state IN ('in_flight', 'collecting') OR (other.state = 'pending' AND coalesce(other.owed_order, other.id) < p_order)
$$;
