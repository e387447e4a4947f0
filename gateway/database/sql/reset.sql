-- name: kept
-- What a reset deletes: instances, and deliveries that are pending, in flight or dead.
SELECT (SELECT count(*) FROM instances) AS instances,
    (SELECT count(*) FROM deliveries WHERE state IN ('collecting', 'pending', 'in_flight', 'dead')) AS unsettled;

-- name: patience
-- A reset waits for open transactions, and new ones wait for the reset: give up after a while.
SET LOCAL lock_timeout TO '10s';

-- name: forget
-- Delete everything in one statement, but the totals of the counters, which never fall. Ids are not restarted: an id that an
-- actor still holds must not mean a new delivery.
TRUNCATE instances, decisions, repeats, unmatched_references, deliveries, attempts, expected_results, result_sources, suspects,
    faults, findings, units, unit_dispatches,
    refusals, refused_instances, history_studies, history_series, history_instances, search_hashes, counter_minutes, backlog_minutes,
    counted_receptions, counted_attempts, counted_results, counted_cancellations, last_successes, dramatiq.queue, dramatiq.rates;

-- name: restart_numbers
ALTER SEQUENCE study_numbers RESTART;

-- name: close_breakers
-- The messages of the probes are deleted, so the breakers close; they open again at the next failures. A pause stays.
UPDATE destinations SET breaker = 'closed', probe_by_store = false, failures_in_row = 0,
    failed_instance_ids = '{}', reason = NULL, reason_at = NULL, answers = NULL, next_probe_at = NULL, probe_of = NULL,
    turn_of = NULL, max_outstanding = coalesce(full_outstanding, max_outstanding), full_outstanding = NULL,
    changed_at = now()
WHERE breaker = 'open' OR failures_in_row > 0;
