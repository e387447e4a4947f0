"""The flows of whole series: collect, complete, claim, send, settle, result, deadline.

The application has two replicas and gets again what is late (`resend_all`). In the flow of sending one
replica dies: it aborts the association over an instance in the middle of a series.
"""

import shutil
from dataclasses import replace

from support.peers import ABORT
from support.synthetic_instances import Instance, new_uid, result_of, study_of

from gateway.domain.contract import EXPIRE_UNIT, FORWARD_UNIT, SWEEP, Contract
from gateway.domain.routing import Route, Target
from proof.crash_points.environment import APPLICATION, Environment, Prepared, Run, Senders
from proof.crash_points.scenario import Scenario, drained, received, settle, swept

_QUEUE = Target(Route.WORKERS, APPLICATION).queue
_NOBODY = 4711
"""The id of an actor process that does not exist."""


def _states(run: Run) -> list[str]:
    """Return the states of all units, oldest first."""
    return [state for (state,) in run.rows("SELECT state::text FROM units ORDER BY id")]


def _sent_series(environment: Environment, name: str, senders: Senders) -> Run:
    """Return a run in which the series of `senders` were sent, and their results are owed."""
    run = received(environment, name, senders, environment.units)
    run.peers()
    settle(run)
    assert set(_states(run)) == {"sent"}, _states(run)
    return run


# ---- collecting, and results -----------------------------------------------------------------------


def _to_collect(environment: Environment) -> Prepared:
    """A new series, a late instance of one that was sent, and the result of that one."""
    sent = study_of(2)
    run = _sent_series(environment, "to_collect", Senders([("ORTHANC", sent)]))
    late = replace(sent[0], sop_instance_uid=new_uid())
    worker = run.one("SELECT worker FROM units")
    run.senders.batches = [("ORTHANC", [*study_of(2), late]), (worker, [result_of(*sent)])]
    return environment.keep(run)


def _all_received(run: Run) -> bool:
    return run.send()


def _collected(run: Run) -> list[str]:
    wanted = ["answered", "sent", "sent"]
    sizes = [count for (count,) in run.rows("SELECT max(instances) FROM unit_dispatches GROUP BY unit_id")]
    found = [] if _states(run) == wanted else [f"units are {_states(run)}, not {wanted}"]
    return found if sorted(sizes) == [2, 2, 3] else [*found, f"units of {sizes} instances were sent"]


# ---- sending -----------------------------------------------------------------------------------------


def _to_send(environment: Environment) -> Prepared:
    senders = Senders([("ORTHANC", study_of(3)), ("ORTHANC", study_of(2))])
    return environment.keep(received(environment, "to_send_units", senders, environment.units))


def _replica_dies(run: Run) -> None:
    run.answer_once = {run.senders.acknowledged[1].sop_instance_uid: ABORT}


def _sent_whole(run: Run) -> list[str]:
    found = [] if _states(run) == ["sent", "sent"] else [f"units are {_states(run)}, not all sent"]
    parts = run.rows(
        "SELECT u.id FROM units u JOIN deliveries d ON d.unit_id = u.id AND d.state = 'delivered'"
        " WHERE d.destination IS DISTINCT FROM u.worker"
    )
    return [*found, *(f"unit {number} is not whole at one worker" for (number,) in parts)]


# ---- sweeping ----------------------------------------------------------------------------------------

_SENT = ("overdue", "given up", "misplaced", "old")
_COLLECTING = ("silent", "its sender died")


def _to_sweep(environment: Environment) -> Prepared:
    first = [Instance(series_description=word) for word in _SENT]
    run = _sent_series(environment, "to_sweep_units", Senders([("ORTHANC", [one]) for one in first]))
    run.senders.batches = [("ORTHANC", [Instance(series_description=word) for word in _COLLECTING])]
    scp = run.serve()
    assert run.send(), scp.text()
    scp.kill()
    overdue, given_up, misplaced, old = (_unit(run, word) for word in _SENT)
    silent, lost = (_unit(run, word) for word in _COLLECTING)
    _lose_messages(run, EXPIRE_UNIT, overdue, given_up)
    run.run(
        "UPDATE units SET next_attempt_at = now() - interval '1 minute' WHERE id IN (%s, %s)",
        overdue,
        given_up,
    )
    run.run("UPDATE units SET redispatches = 1 WHERE id = %s", given_up)
    _misplace(run, misplaced)
    _grow_old(run, old)
    _lose_messages(run, FORWARD_UNIT, silent, lost)
    run.run(
        "UPDATE units SET last_at = now() - interval '1 hour', next_attempt_at = now() - interval '1 hour'"
        " WHERE id = %s",
        silent,
    )
    _lose_sender(run, lost)
    run.rows("SELECT dramatiq.send('sweep', %s, '[]'::jsonb)", SWEEP.actor_name)
    return environment.keep(run)


def _uid(run: Run, word: str) -> str:
    [instance] = [one for one in run.senders.acknowledged if one.series_description == word]
    return instance.sop_instance_uid


def _unit(run: Run, word: str) -> int:
    return int(
        run.one(
            "SELECT d.unit_id FROM deliveries d JOIN instances i ON i.id = d.instance_id"
            " WHERE i.sop_instance_uid = %s AND d.unit_id IS NOT NULL",
            _uid(run, word),
        )
    )


def _lose_messages(run: Run, of: Contract, *unit_ids: int) -> None:
    run.run(
        "DELETE FROM dramatiq.queue WHERE message ->> 'actor_name' = %s"
        " AND (message -> 'args' ->> 0)::bigint = ANY (%s)",
        of.actor_name,
        list(unit_ids),
    )


def _misplace(run: Run, unit_id: int) -> None:
    """Leave its instance as a process does that died after it settled the unit."""
    [(study, name)] = run.rows(
        "UPDATE instances i SET place = 'incoming' FROM deliveries d"
        " WHERE d.instance_id = i.id AND d.unit_id = %s RETURNING i.study_instance_uid, i.file_name",
        unit_id,
    )
    folder = run.root / "incoming" / study
    folder.mkdir(exist_ok=True)
    shutil.move(run.root / "sent" / study / name, folder / name)
    (run.root / "sent" / study).rmdir()
    run.run("UPDATE units SET sent_at = now() - interval '1 minute' WHERE id = %s", unit_id)


def _grow_old(run: Run, unit_id: int) -> None:
    """Let it be answered, three days ago."""
    run.run(
        "UPDATE units SET state = 'answered', settled_at = now() - interval '3 days', next_attempt_at = NULL"
        " WHERE id = %s",
        unit_id,
    )
    run.run(
        "UPDATE instances i SET received_at = now() - interval '3 days' FROM deliveries d"
        " WHERE d.instance_id = i.id AND d.unit_id = %s",
        unit_id,
    )
    run.run(
        "UPDATE deliveries SET settled_at = now() - interval '3 days' WHERE instance_id IN"
        " (SELECT instance_id FROM deliveries WHERE unit_id = %s)",
        unit_id,
    )


def _lose_sender(run: Run, unit_id: int) -> None:
    """Let it be claimed by a process that is gone, with a lease that is over."""
    run.run("UPDATE units SET state = 'complete', completed_at = now() WHERE id = %s", unit_id)
    run.run(
        "UPDATE units SET state = 'sending', claim_id = gen_random_uuid(), claimed_by = %s, worker = 'APP01',"
        " lease_until = now() - interval '1 minute', next_attempt_at = NULL, message_id = NULL WHERE id = %s",
        _NOBODY,
        unit_id,
    )
    run.run(
        "INSERT INTO unit_dispatches (unit_id, worker, claim_id)"
        " SELECT id, worker, claim_id FROM units WHERE id = %s",
        unit_id,
    )


def _old(run: Run) -> frozenset[str]:
    return frozenset([_uid(run, "old")])


def _repaired(run: Run) -> list[str]:
    wanted = {"overdue": ("sent", 1), "given up": ("timed_out", 1)} | dict.fromkeys(
        ("misplaced", *_COLLECTING), ("sent", 0)
    )
    found = {}
    for word in wanted:
        [found[word]] = run.rows(
            "SELECT state::text, redispatches FROM units WHERE id = %s", _unit(run, word)
        )
    kept = run.one("SELECT count(*) FROM units")
    wrong = [] if found == wanted else [f"units are {found}, not {wanted}"]
    return wrong if kept == len(wanted) else [*wrong, f"{kept} units are kept, not {len(wanted)}"]


SCENARIOS = (
    Scenario("unit_collect", _to_collect, "scp", _all_received, check=_collected),
    Scenario("unit_send", _to_send, "workers", drained(_QUEUE), _replica_dies, check=_sent_whole),
    Scenario("unit_sweep", _to_sweep, "sweep", swept, purged=_old, check=_repaired),
)
