"""The flows: what is prepared, which process dies, and when a run without a crash is complete."""

import os
import shutil
import time

from support.synthetic_instances import Instance, new_uid, result_of, study_of
from support.waiting import wait_until

from gateway.domain.contract import SWEEP
from gateway.domain.dimse_status import Status
from gateway.spool.partial import LOCK, PARTIAL
from gateway.spool.places import ORPHANED
from proof.crash_points import left_receptions, rare_receptions, unit_flows
from proof.crash_points.environment import Environment, Prepared, Run, Senders
from proof.crash_points.scenario import Scenario, drained, received, settle, swept

OLD_SECONDS = 7200.0
"""Age of a folder that purge removes."""


# ---- receiving -----------------------------------------------------------------------------------


def _to_receive(environment: Environment) -> Prepared:
    study = study_of(2)
    conflict = Instance(study[0].sop_instance_uid, study[0].study_instance_uid, payload=b"\x03\x04" * 512)
    senders = Senders([("ORTHANC", [*study, conflict]), ("ORTHANC", [Instance(), study[1]])])
    return environment.keep(
        environment.begin(
            Prepared(environment.empty.folder, environment.empty.database, senders), "to_receive"
        )
    )


def _sent(run: Run) -> bool:
    return run.send()


def _to_receive_more(environment: Environment) -> Prepared:
    known = rare_receptions.known()
    run = received(environment, "to_receive_more", Senders([("ORTHANC", known)]))
    run.peers()
    settle(run)
    rare_receptions.forget(run, known)
    run.senders = rare_receptions.senders(known)
    return environment.keep(run)


def _to_give_up(environment: Environment) -> Prepared:
    run = environment.begin(
        Prepared(
            environment.empty.folder,
            environment.empty.database,
            Senders([("ORTHANC", [Instance()]) for _ in range(rare_receptions.AT_ONCE)]),
        ),
        "to_give_up",
    )
    left_receptions.refuse_second(run)
    return environment.keep(run)


def _gave_up(run: Run) -> bool:
    if not rare_receptions.send(run) or run.died():
        return False
    assert len(left_receptions.refused(run)) == 1
    return True


# ---- registering what was left -------------------------------------------------------------------


def _to_recover(environment: Environment) -> Prepared:
    known = rare_receptions.known()
    run = received(environment, "to_recover", Senders([("ORTHANC", known)]))
    run.peers()
    settle(run)
    rare_receptions.forget(run, known)
    worker = run.configuration.forwarder.workers[0].ae_title
    run.senders = left_receptions.senders(known, worker)
    left_receptions.leave(run)
    run.rows("SELECT dramatiq.send('sweep', %s, '[]'::jsonb)", SWEEP.actor_name)
    return environment.keep(run)


def _grow_old(run: Run) -> None:
    """Wait until the files of the copy are older than the graces of the sweep."""
    newest = max(path.stat().st_ctime for path in run.files())
    grace = run.configuration.sweep.orphan_grace_seconds
    wait_until(lambda: time.time() - newest > grace, 5, "the files to be old enough")


# ---- correlating ---------------------------------------------------------------------------------


def _to_correlate(environment: Environment) -> Prepared:
    one, late, lone = Instance(), Instance(), Instance()
    run = received(environment, "to_correlate", Senders([("ORTHANC", [one, late, lone])]))
    run.peers()
    settle(run)
    worker = dict(
        run.rows(
            "SELECT i.sop_instance_uid, e.worker"
            " FROM expected_results e JOIN instances i ON i.id = e.instance_id"
        )
    )
    run.run(
        "UPDATE expected_results e SET state = 'timed_out', message_id = NULL FROM instances i"
        " WHERE i.id = e.instance_id AND i.sop_instance_uid = %s",
        late.sop_instance_uid,
    )
    results = [
        (worker[one.sop_instance_uid], [result_of(one)]),
        (worker[late.sop_instance_uid], [result_of(late)]),
        (worker[lone.sop_instance_uid], [result_of(study=lone.study_instance_uid)]),
    ]
    early = Instance()
    before_source = [(worker[one.sop_instance_uid], [result_of(early)]), ("ORTHANC", [early])]
    run.senders.batches = [*results, results[0], *before_source]
    return environment.keep(run)


def _correlated(run: Run) -> list[str]:
    states = sorted(row[0] for row in run.rows("SELECT state::text FROM expected_results"))
    wanted = ["arrived", "arrived", "late", "owed"]
    found = [] if states == wanted else [f"results are {states}, not {wanted}"]
    linked = run.one("SELECT count(*) FROM result_sources")
    return found if linked == len(wanted) else [*found, f"{linked} results are linked to their sources"]


# ---- forwarding ----------------------------------------------------------------------------------


def _to_forward(environment: Environment) -> Prepared:
    return environment.keep(
        received(environment, "to_forward", Senders([("ORTHANC", [*study_of(2), Instance()])]))
    )


def _refuse_one(run: Run) -> None:
    run.answer_once = {run.senders.acknowledged[1].sop_instance_uid: Status.OUT_OF_RESOURCES}


def _waits_for_probe(run: Run) -> bool:
    """Tell whether the PACS counts as away, was probed once more, and no message is claimed."""
    return bool(
        run.one("SELECT count(*) FROM destinations WHERE ae_title = 'ORTHANC' AND breaker = 'open'")
        and run.one(
            "SELECT count(*) FROM dramatiq.queue WHERE state = 'queued' AND priority = -1 AND due > now()"
        )
        and not run.one("SELECT count(*) FROM dramatiq.queue WHERE state = 'consumed'")
    )


# ---- sweeping ------------------------------------------------------------------------------------

_DELIVERED = ("old", "asked again", "given up")
_UNDELIVERED = ("in flight", "silent", "misplaced", "twice there")


def _to_sweep(environment: Environment) -> Prepared:
    first = [Instance(series_description=word) for word in _DELIVERED]
    run = received(environment, "to_sweep", Senders([("ORTHANC", first)]))
    run.peers()
    settle(run)
    run.senders.batches = [("ORTHANC", [Instance(series_description=word) for word in _UNDELIVERED])]
    scp = run.serve()
    assert run.send(), scp.text()
    scp.kill()
    old, again, given_up = (_id(run, word) for word in _DELIVERED)
    in_flight, silent = _id(run, "in flight"), _id(run, "silent")
    run.run("UPDATE expected_results SET state = 'arrived', arrived_at = now() WHERE instance_id = %s", old)
    run.run("UPDATE instances SET received_at = now() - interval '3 days' WHERE id = %s", old)
    run.run("UPDATE deliveries SET settled_at = now() - interval '3 days' WHERE instance_id = %s", old)
    run.run(
        "UPDATE expected_results SET due_at = now() - interval '1 minute' WHERE instance_id IN (%s, %s)",
        again,
        given_up,
    )
    run.run("UPDATE deliveries SET redispatches = 2 WHERE route = 'workers' AND instance_id = %s", given_up)
    run.run("DELETE FROM dramatiq.queue WHERE queue_name = 'sweep'")
    run.run(
        "DELETE FROM dramatiq.queue q USING deliveries d"
        " WHERE d.id = q.delivery_id AND d.instance_id IN (%s, %s)",
        in_flight,
        silent,
    )
    run.run(
        "UPDATE deliveries SET state = 'in_flight', claim_id = gen_random_uuid(), claimed_by = 4711,"
        " lease_until = now() - interval '1 minute' WHERE instance_id = %s",
        in_flight,
    )
    run.run(
        "UPDATE deliveries SET next_attempt_at = now() - interval '1 hour' WHERE instance_id = %s", silent
    )
    run.rows("SELECT dramatiq.send('sweep', %s, '[]'::jsonb)", SWEEP.actor_name)
    return environment.keep(run)


def _instance(run: Run, word: str) -> Instance:
    [instance] = [one for one in run.senders.acknowledged if one.series_description == word]
    return instance


def _id(run: Run, word: str) -> int:
    uid = _instance(run, word).sop_instance_uid
    return int(run.one("SELECT id FROM instances WHERE sop_instance_uid = %s", uid))


def _disarrange(run: Run) -> None:
    """Change files as crashes do; copies of a spool do not keep hard links, so each run needs it."""
    for word, place, move in (("misplaced", "queued", shutil.move), ("twice there", "sent", os.link)):
        instance = _instance(run, word)
        source = run.root / "incoming" / instance.study_instance_uid / f"{instance.sop_instance_uid}.dcm"
        target = run.root / place / instance.study_instance_uid / source.name
        target.parent.mkdir(parents=True)
        move(str(source), str(target))
    stray = run.root / "incoming" / new_uid() / "1.2.3.dcm"
    stray.parent.mkdir()
    stray.write_bytes(b"of a receiver that died")
    dead = run.root / PARTIAL / "dead"
    dead.mkdir()
    for name in (LOCK, "00000000.part", "00000001.part"):
        (dead / name).touch()
    empty = run.root / "queued" / new_uid()
    empty.mkdir()
    old = time.time() - OLD_SECONDS
    os.utime(empty, (old, old))
    # the sweep looks at ages: they must exceed the grace of this configuration
    grace = run.configuration.sweep.orphan_grace_seconds
    wait_until(lambda: time.time() - stray.stat().st_ctime > grace, 5, "the stray to be old enough")


def _old(run: Run) -> frozenset[str]:
    return frozenset([_instance(run, "old").sop_instance_uid])


def _healed(run: Run) -> list[str]:
    orphans = [path.name for path in (run.root / ORPHANED).rglob("*.dcm")]
    found = [] if orphans == ["1.2.3.dcm"] else [f"orphaned are {orphans}"]
    states = {
        word: sorted(
            row[0]
            for row in run.rows(
                "SELECT state::text FROM expected_results WHERE instance_id = %s", _id(run, word)
            )
        )
        for word in ("asked again", "given up")
    }
    wanted = {"asked again": ["owed", "timed_out"], "given up": ["timed_out"]}
    return found if states == wanted else [*found, f"results are {states}, not {wanted}"]


SCENARIOS = (
    Scenario("receive", _to_receive, "scp", _sent),
    Scenario("receive_more", _to_receive_more, "scp", rare_receptions.send),
    Scenario("give_up", _to_give_up, "scp", _gave_up, repair=left_receptions.refuses_no_more),
    Scenario(
        "recover",
        _to_recover,
        "scp",
        left_receptions.all_registered,
        check=left_receptions.set_aside,
    ),
    Scenario("correlate", _to_correlate, "scp", _sent, check=_correlated),
    Scenario("forward_pacs", _to_forward, "pacs", drained("pacs"), _refuse_one),
    Scenario("forward_workers", _to_forward, "workers", drained("workers"), _refuse_one),
    Scenario("outage", _to_forward, "pacs", _waits_for_probe, pacs_is_away=True),
    Scenario("recover_by_sweep", _to_recover, "sweep", swept, _grow_old, check=left_receptions.set_aside),
    Scenario("sweep", _to_sweep, "sweep", swept, _disarrange, purged=_old, check=_healed),
    *unit_flows.SCENARIOS,
)
