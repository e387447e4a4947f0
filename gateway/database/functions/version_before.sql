-- Return the delivery that a pending one waits for: the last of those that come before it. NULL if it waits for none.
CREATE OR REPLACE FUNCTION version_before(p_delivery_id bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT y.id FROM deliveries x CROSS JOIN LATERAL other_versions(x.id) AS y
    WHERE x.id = p_delivery_id AND x.state = 'pending' AND comes_before(y, version_order(x))
    ORDER BY version_order(y) DESC LIMIT 1
$$;
