-- name: register, prepared
-- Register a reception: its instance, deliveries and messages (see functions/register_reception.sql); and count it.
WITH registered AS MATERIALIZED (
    SELECT * FROM register_reception(
        %(sop_instance_uid)s, %(study_instance_uid)s, %(series_instance_uid)s, %(sop_class_uid)s,
        %(transfer_syntax_uid)s, %(sha256)s, %(data_set_size)s, %(calling_ae_title)s, %(called_ae_title)s,
        %(remote_address)s, %(kind)s::instance_kind, %(file_name)s, %(routes)s::route[], %(targets)s::text[],
        %(actor_names)s::text[], %(priority)s, %(origin)s, %(result_routes)s::route[], %(result_targets)s::text[],
        %(result_actor_names)s::text[], %(window)s, %(reception_id)s::uuid, %(received_at)s)
), counted AS (
    INSERT INTO counted_receptions (calling_ae_title, kind, receptions, bytes)
    SELECT %(calling_ae_title)s, {fragment:counted_kind}, 1, %(data_set_size)s FROM registered
    WHERE verdict NOT IN ('registered', 'name_taken')
)
SELECT {fragment:registered_instance} FROM registered;

-- name: register_many, prepared
-- The same for several in one transaction and one round trip. The caller sorts them by SOP Instance UID, so that all
-- batches lock in one order (see functions/register_receptions.sql).
WITH registered AS MATERIALIZED (
    SELECT * FROM register_receptions(
        %(sop_instance_uid)s::text[], %(study_instance_uid)s::text[], %(series_instance_uid)s::text[],
        %(sop_class_uid)s::text[], %(transfer_syntax_uid)s::text[], %(sha256)s::bytea[], %(data_set_size)s::bigint[],
        %(calling_ae_title)s::text[], %(called_ae_title)s::text[], %(remote_address)s::text[],
        %(kind)s::instance_kind[], %(file_name)s::text[], %(routes)s::text[], %(targets)s::text[],
        %(actor_names)s::text[], %(priority)s::integer[], %(origin)s::text[], %(result_routes)s::route[],
        %(result_targets)s::text[], %(result_actor_names)s::text[], %(window)s, %(reception_id)s::uuid[],
        %(received_at)s::timestamptz[])
), counted AS (
    INSERT INTO counted_receptions (calling_ae_title, kind, receptions, bytes)
    SELECT r.calling_ae_title, {fragment:counted_kind}, count(*), sum(r.data_set_size)
    FROM registered JOIN unnest(%(calling_ae_title)s::text[], %(data_set_size)s::bigint[])
        WITH ORDINALITY AS r (calling_ae_title, data_set_size, n) ON r.n = registered."position"
    WHERE verdict NOT IN ('registered', 'name_taken') GROUP BY 1, 2
)
SELECT {fragment:registered_instance} FROM registered ORDER BY "position";

-- name: restore_file
-- Use the file of a repeat for an instance whose own file is missing.
UPDATE instances SET place = place_of(id), file_name = %(file_name)s WHERE id = %(instance_id)s;

-- name: get
SELECT {fragment:stored_instance} FROM instances i WHERE i.id = %(instance_id)s;

-- name: has_other_version
-- The column `conflict` is set for the later version only; this finds the earlier one, too.
SELECT EXISTS (
    SELECT FROM instances WHERE sop_instance_uid = %(sop_instance_uid)s AND id <> %(instance_id)s);
