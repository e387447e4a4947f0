"""Rows for the pages of the console that a lab does not have: many dead deliveries, hostile texts."""

from support.console_lab import ConsoleLab
from support.synthetic_instances import Instance, new_uid

MANY = 450
"""More deliveries than the console changes without progress in the background."""
HOSTILE = "<img src=x onerror=\"document.title='run'\"><b>\u202e\u0007</script>" + "y" * 10_000

_CLEAN = (
    "DELETE FROM dramatiq.queue WHERE reason LIKE '%%onerror%%'",
    "DELETE FROM refusals WHERE detail LIKE '%%onerror%%'",
    "DELETE FROM processes WHERE host LIKE '%%onerror%%'",
    "UPDATE destinations SET paused = false, pause_reason = NULL, paused_by = NULL WHERE ae_title = 'APP05'",
)

_MANY_DEAD = """
SET LOCAL session_replication_role TO replica;
WITH made AS (
    INSERT INTO instances (sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid,
        transfer_syntax_uid, sha256, data_set_size, calling_ae_title, called_ae_title, remote_address,
        kind, place, file_name, received_at)
    SELECT '{root}.' || n, '{root}', '{root}.0', sop_class_uid, transfer_syntax_uid,
        sha256(convert_to('{root}.' || n, 'UTF8')), data_set_size, calling_ae_title, called_ae_title,
        remote_address, kind, place, '{root}.' || n || '.dcm', received_at
    FROM instances CROSS JOIN generate_series(1, {many}) AS n
    WHERE sop_instance_uid = '{like}' RETURNING id)
INSERT INTO deliveries (instance_id, route, target, state, priority, owed_since, attempts,
    next_attempt_at, destination, last_status, last_error, settled_at)
SELECT id, 'pacs', 'ORTHANC', 'dead', 4, now(), 1, NULL, 'ORTHANC', 42752, '{reason}', now() FROM made;
"""


def make_many_dead(console: ConsoleLab, like: Instance, reason: str) -> None:
    """Make MANY dead deliveries with that reason, of further instances like that one."""
    with console.database.transaction() as session:
        session.script(
            _MANY_DEAD.format(root=new_uid(), many=MANY, like=like.sop_instance_uid, reason=reason)
        )


def insert_hostile(console: ConsoleLab) -> None:
    """Put HOSTILE into the columns that peers, processes and operators fill."""
    title, text = HOSTILE[:200], HOSTILE
    console.run(
        "INSERT INTO refusals (minute, kind, reason, calling_ae_title, called_ae_title, remote_address,"
        " count, first_at, last_at, status, detail, last_uid) VALUES (date_trunc('minute', now()),"
        " 'association', 'calling_ae_title', %(t)s, %(t)s, %(t)s, 3, now(), now(), 1, %(l)s, %(l)s)",
        t=title,
        l=text,
    )
    console.run(
        "INSERT INTO processes (id, kind, serves, host, pid, os_user, version, started_at, beat_at,"
        " server_process, configuration_digest, spool_problem) VALUES (gen_random_uuid(), 'actors', %(l)s,"
        " %(l)s, 7, %(l)s, %(l)s, now(), now(), 0, %(l)s, %(l)s)",
        l=text,
    )
    console.run(
        "INSERT INTO dramatiq.queue (message_id, queue_name, state, message, reason) VALUES"
        " (gen_random_uuid(), %(t)s, 'rejected', jsonb_build_object('actor_name', %(t)s), %(l)s)",
        t=title,
        l=text,
    )
    console.run(
        "UPDATE destinations SET paused = true, paused_by = %(l)s, pause_reason = %(l)s"
        " WHERE ae_title = 'APP05'",
        l=text,
    )
    console.run(
        "INSERT INTO activity (who, via, address, verb, target, outcome)"
        " VALUES (%(t)s, 'cli', %(t)s, 'retry', %(t)s, %(t)s)",
        t=title,
    )


def delete_hostile(console: ConsoleLab) -> None:
    """Delete them; those in the record of activity stay."""
    for statement in _CLEAN:
        console.run(statement)
