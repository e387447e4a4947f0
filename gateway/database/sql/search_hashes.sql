-- Keyed hashes of accession numbers and patient IDs. The values themselves never reach PostgreSQL.

-- name: add
INSERT INTO search_hashes (hash, study_instance_uid, series_instance_uid)
SELECT * FROM unnest(%(hashes)s::bytea[], %(studies)s::text[], %(series)s::text[])
ON CONFLICT ON CONSTRAINT search_hashes_pkey DO NOTHING;

-- name: find
-- The studies with one of these hashes, the one that was received last first.
SELECT h.study_instance_uid FROM (
    SELECT DISTINCT study_instance_uid FROM search_hashes WHERE hash = ANY (%(hashes)s::bytea[])) AS h
ORDER BY greatest((SELECT max(received_at) FROM instances i WHERE i.study_instance_uid = h.study_instance_uid),
    (SELECT p.last_received_at FROM history_studies p WHERE p.study_instance_uid = h.study_instance_uid)) DESC NULLS LAST
LIMIT %(limit)s;

-- name: series_after
-- One file of each series among the next instances after an id; and the last id that was looked at.
SELECT DISTINCT ON (x.series_instance_uid) x.id AS instance_id, x.study_instance_uid, x.series_instance_uid,
    x.transfer_syntax_uid, x.file_name, x.place::text, x.received_at
FROM (SELECT * FROM instances i WHERE i.id > %(after)s ORDER BY i.id LIMIT %(limit)s) AS x
WHERE NOT EXISTS (SELECT FROM search_hashes h
    WHERE h.study_instance_uid = x.study_instance_uid AND h.series_instance_uid = x.series_instance_uid)
ORDER BY x.series_instance_uid, x.id;

-- name: last_id
-- The last of the next instances after an id; NULL where there is none.
SELECT max(x.id) FROM (SELECT i.id FROM instances i WHERE i.id > %(after)s ORDER BY i.id LIMIT %(limit)s) AS x;

-- name: forget
-- The hashes of those of these studies of which neither an instance nor a row of the history is left.
DELETE FROM search_hashes h WHERE h.study_instance_uid = ANY (%(studies)s::text[])
    AND NOT EXISTS (SELECT FROM instances i WHERE i.study_instance_uid = h.study_instance_uid)
    AND NOT EXISTS (SELECT FROM history_studies p WHERE p.study_instance_uid = h.study_instance_uid);

-- name: forget_all
-- Some of the hashes: edge.search_key is not set any more.
DELETE FROM search_hashes WHERE ctid IN (SELECT ctid FROM search_hashes LIMIT %(limit)s);
