-- name: receive
-- A reception, whole: instance, deliveries, messages (see the function in migrations/0002_gateway.sql).
SELECT instance_id, verdict, kept_file_name, kept_place::text
FROM receive_instance(
    %(sop_instance_uid)s, %(study_instance_uid)s, %(series_instance_uid)s, %(sop_class_uid)s,
    %(transfer_syntax_uid)s, %(sha256)s, %(data_set_size)s, %(calling_ae_title)s, %(called_ae_title)s,
    %(remote_address)s, %(kind)s::instance_kind, %(file_name)s, %(routes)s::route[], %(actor_names)s::text[],
    %(priority)s, %(window)s);

-- name: restore_file
-- The kept file of a repeated instance is gone: the repeat's file takes its place.
UPDATE instances SET place = 'incoming', file_name = %(file_name)s WHERE id = %(instance_id)s;

-- name: get
SELECT id, sop_instance_uid, study_instance_uid, sop_class_uid, transfer_syntax_uid,
    encode(sha256, 'hex'), data_set_size, file_name, conflict, place::text
FROM instances WHERE id = %(instance_id)s;
