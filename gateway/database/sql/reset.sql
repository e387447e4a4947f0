-- name: kept
-- What a reset would forget: instances, and deliveries that are still owed or dead.
SELECT (SELECT count(*) FROM instances) AS instances,
    (SELECT count(*) FROM deliveries WHERE state IN ('pending', 'in_flight', 'dead')) AS unsettled;

-- name: patience
-- The locks of a reset come when open transactions end; it must not queue up everybody behind one that does not.
SET LOCAL lock_timeout TO '10s';

-- name: forget
-- Everything at once. Ids go on: what a live actor still holds must never mean a new delivery.
TRUNCATE instances, deliveries, attempts, expected_results, result_sources, suspects, faults, dramatiq.queue, dramatiq.rates;

-- name: restart_numbers
ALTER SEQUENCE study_numbers RESTART;

-- name: close_breakers
-- Their probes were messages and are gone; a peer that is away is found out again. A pause is an order and stays.
UPDATE destinations SET breaker = 'closed', probe_by_store = false, failures_in_row = 0,
    failed_instance_ids = '{}', reason = NULL, reason_at = NULL, answers = NULL, next_probe_at = NULL, probe_of = NULL,
    turn_of = NULL, max_outstanding = coalesce(full_outstanding, max_outstanding), full_outstanding = NULL,
    changed_at = now()
WHERE breaker = 'open' OR failures_in_row > 0;
