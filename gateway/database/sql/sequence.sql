-- name: next_numbers
SELECT nextval('study_numbers') FROM generate_series(1, %(count)s);
