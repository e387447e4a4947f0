"""The queue and its peers: closed routes cost nothing, urgent messages run first, idle actors cost little."""

import os
import time
from pathlib import Path

from conftest import MakeEdge
from support.edge_setup import EdgeSetup, store
from support.forwarding import forwarding, workers_of
from support.peers import peer
from support.synthetic_instances import Instance, result_of, study_of
from support.waiting import wait_until
from typer.testing import CliRunner

from cli.main import build
from gateway.lab import stray_processes

BACKLOG = 100_000
HIGH = 0x0001
"""PS3.7 §9.3.1.1, Table 9.3-1, Priority."""

FILL = """
SELECT count(dramatiq.send(%(queue)s, %(actor)s, jsonb_build_array(-i)))
FROM generate_series(1, %(count)s) AS i
"""
NOW = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"
CHURN = """
SELECT count(*) FROM (
    SELECT xmin, xmax FROM dramatiq.queue UNION ALL SELECT xmin, xmax FROM deliveries
    UNION ALL SELECT xmin, xmax FROM attempts UNION ALL SELECT xmin, xmax FROM expected_results
) AS row WHERE greatest(xmin::text::bigint, xmax::text::bigint) >= %(since)s::bigint
"""
"""Rows written or locked `since`, and rows in the table.

The statistics come late, at any time a backend sends.
"""
HAVE_TRIED = (
    "SELECT count(*) FROM deliveries WHERE route = 'workers' AND (last_error <> '' OR settled_at <= now())"
)
DELIVERED = "SELECT count(*) FROM deliveries WHERE route = 'workers' AND state = 'delivered'"
WAIT_FOR = "SELECT count(*) FROM deliveries WHERE state = 'pending' AND waits_for = %(title)s"
OWED = """
SELECT i.sop_instance_uid FROM expected_results e JOIN instances i ON i.id = e.instance_id
WHERE e.state = 'owed'
"""
IDLE_SECONDS = 12
"""Backends report their activity once a second, so a shorter time would count up to a quarter too much."""
TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
QUIET_SECONDS = 2.0


def test_a_paused_destination_costs_nothing_and_resume_wakes_the_actors(make_edge: MakeEdge) -> None:
    """100,000 wait: no row is touched, no claim is made; `resume` wakes the actors, which send the oldest."""
    edge = make_edge({"forwarder": {"mode": "pacs_only"}})
    with forwarding(edge) as core, peer(edge.configuration.forwarder.orthanc.port) as pacs:
        assert _operate("destinations", "pause", "ORTHANC") == 0
        instance = Instance()
        core.receive(instance)
        _fill(edge, "pacs", "forward_to_pacs")
        [actors] = edge.actors("pacs", threads=8)
        assert _churn(edge) == 0
        assert not pacs.taken
        actors.kill()
        [actors] = edge.actors("pacs", threads=8, polls=False)
        assert _operate("destinations", "resume", "ORTHANC") == 0
        pacs.wait_for(instance.sop_instance_uid, timeout=30)
        actors.kill()


def test_a_pause_with_an_end_survives_the_processes_and_ends_by_itself(make_edge: MakeEdge) -> None:
    """The actors that ran when it began are killed; those that start after its end send what waits."""
    edge = make_edge({"forwarder": {"mode": "pacs_only"}})
    with forwarding(edge) as core, peer(edge.configuration.forwarder.orthanc.port) as pacs:
        assert _operate("destinations", "pause", "ORTHANC", "--for", "2s") == 0
        instance = Instance()
        core.receive(instance)
        for process in edge.actors("pacs", "sweep"):
            process.kill()
        assert not pacs.taken
        edge.actors("pacs", "sweep")
        pacs.wait_for(instance.sop_instance_uid, timeout=30)
        edge.wait_log(outcome="resumed")


def test_an_open_breaker_costs_only_its_probes(make_edge: MakeEdge) -> None:
    """100,000 wait for an unreachable PACS: only the probes run until one succeeds."""
    edge = make_edge({"forwarder": {"mode": "pacs_only", "probe_interval_seconds": 1}})
    with (
        forwarding(edge) as core,
        peer(edge.configuration.forwarder.orthanc.port, on=False) as pacs,
    ):
        instance = Instance()
        core.receive(instance)
        [actors] = edge.actors("pacs", threads=8)
        edge.wait_log(outcome="probe_failed")
        _fill(edge, "pacs", "forward_to_pacs")
        # a probe inserts the next, is claimed and is deleted
        assert _churn(edge) <= 3 * (QUIET_SECONDS + 2)
        actors.kill()
        [actors] = edge.actors("pacs", threads=8, polls=False)
        pacs.on()
        pacs.wait_for(instance.sop_instance_uid, timeout=30)
        edge.wait_state(instance, "delivered")
        actors.kill()


def test_workers_without_capacity_cost_nothing(make_edge: MakeEdge) -> None:
    """Every worker has its limit of expected results: no claim is made until one answers."""
    edge = make_edge({"forwarder": {"worker_max_outstanding": 1, "worker_timeout_seconds": 300}})
    with forwarding(edge) as core, workers_of(core) as workers:
        [actors] = edge.actors("workers", threads=8)
        sent = study_of(len(workers))
        for instance in sent:
            core.receive(instance)
        core.context.wakeup.wake("workers")
        for instance in sent:
            edge.wait_state(instance, "delivered", route="workers")
        waiting = Instance()
        core.receive(waiting)
        _fill(edge, "workers", "forward_to_worker")
        assert _churn(edge) == 0
        actors.kill()
        [actors] = edge.actors("workers", threads=8, polls=False)
        [worker] = [title for title, one in workers.items() if sent[0].sop_instance_uid in one.uids()]
        core.receive(result_of(sent[0]), worker=worker)
        core.context.wakeup.wake("workers")  # as the SCP does after a result
        workers[worker].wait_for(waiting.sop_instance_uid, timeout=30)
        actors.kill()


def test_a_study_waits_for_its_worker_without_churn(make_edge: MakeEdge) -> None:
    """200 wait for a busy worker: one message checks for it; a result wakes as many as have capacity."""
    edge = make_edge(
        {
            "forwarder": {
                "worker_affinity": "study",
                "worker_max_outstanding": 3,
                "worker_timeout_seconds": 300,
            }
        }
    )
    with forwarding(edge) as core, workers_of(core) as workers:
        study = study_of(200)
        for instance in study:
            core.receive(instance)
        [actors] = edge.actors("workers", threads=8)
        wait_until(lambda: edge.one(HAVE_TRIED) == 200, 20, "all to have tried")
        assert edge.one(DELIVERED) == 3
        [worker] = [title for title, one in workers.items() if one.taken]
        assert _churn(edge) < 60
        for _ in range(3):
            before = edge.one(DELIVERED)
            owed = {row[0] for row in edge.rows(OWED)}
            for instance in study:
                if instance.sop_instance_uid in owed:
                    core.receive(result_of(instance), worker=worker)
            core.context.wakeup.wake("workers")
            wait_until(lambda before=before: edge.one(DELIVERED) == before + 3, 15, "the next three")  # type: ignore[misc]
        # it goes away: the study gets another worker, which takes its limit, and the rest wait for that one
        edge.run("UPDATE destinations SET paused = true WHERE ae_title = %(title)s", title=worker)
        wait_until(lambda: edge.one(DELIVERED) == 15, 15, "three at another worker")
        wait_until(lambda: edge.one(WAIT_FOR, title=worker) == 0, 10, "all to wait for that one")
        assert len([title for title, one in workers.items() if one.taken]) == 2
        assert _churn(edge) < 60
        actors.kill()


def test_urgent_instances_overtake_a_backlog_up_to_the_pacs(make_edge: MakeEdge) -> None:
    """C-STORE priority HIGH, an urgent calling AE title, an urgent modality: before all earlier ones."""
    edge = make_edge(
        {
            "edge": {
                "allowed_calling_aets": ["ORTHANC", "ER_CT", *(f"APP0{n}" for n in range(1, 6))],
                "urgent": {"calling_aets": ["ER_CT"], "modalities": ["XA"]},
            },
            "forwarder": {"mode": "pacs_only"},
        }
    )
    edge.serve()
    usual = study_of(30)
    assert set(edge.send(*usual)) == {0}
    high, by_title, by_modality = Instance(), Instance(), Instance(modality="XA")
    with edge.association([high.context]) as association:
        assert store(association, high, priority=HIGH)[0] == 0
    edge.settle()  # two receivers register what they have received independently of each other
    assert edge.send(by_title, calling="ER_CT") == [0]
    edge.settle()
    assert edge.send(by_modality) == [0]
    with peer(edge.configuration.forwarder.orthanc.port) as pacs:
        [actors] = edge.actors("pacs", threads=1)
        everything = [high, by_title, by_modality, *usual]
        pacs.wait_for(*(instance.sop_instance_uid for instance in everything), timeout=30)
        assert pacs.uids() == [instance.sop_instance_uid for instance in everything]
        actors.stop()


def test_a_reception_wakes_idle_actors(make_edge: MakeEdge) -> None:
    """The SCP sends NOTIFY after its commit; the actors do not poll. `make bench` measures the delay."""
    edge = make_edge({"forwarder": {"mode": "pacs_only"}})
    edge.serve()
    with peer(edge.configuration.forwarder.orthanc.port):
        [actors] = edge.actors("pacs", threads=4, polls=False)
        instances = study_of(21)
        with edge.association([instances[0].context]) as association:
            for instance in instances:
                assert store(association, instance)[0] == 0
                edge.wait_state(instance, "delivered")
        actors.kill()


def test_idle_actors_cost_little(make_edge: MakeEdge) -> None:
    """`dramatiq actors -Q pacs` with 8 threads: under 5 statements a second, 1 % of a core, 150 MB."""
    edge = make_edge({"forwarder": {"mode": "pacs_only"}})
    with forwarding(edge) as core, peer(edge.configuration.forwarder.orthanc.port) as pacs:
        [actors] = edge.actors("pacs", threads=8)
        instance = Instance()
        core.receive(instance)
        core.context.wakeup.wake("pacs")
        pacs.wait_for(instance.sop_instance_uid)
        family = [actors.pid, *stray_processes.descendants(actors.pid)]
        # the association is released, and idle backends have reported their earlier activity (each 10 s)
        _let_pass(11)
        before, cpu = edge.one(TRANSACTIONS), _cpu_seconds(family)
        _let_pass(IDLE_SECONDS)
        statements, spent = edge.one(TRANSACTIONS) - before, _cpu_seconds(family) - cpu
        assert statements / IDLE_SECONDS < 5
        assert spent / IDLE_SECONDS < 0.01
        assert max(map(_resident_bytes, family)) < 150e6
        actors.stop()


def _fill(edge: EdgeSetup, queue: str, actor: str) -> None:
    """Enqueue messages of deliveries that do not exist, so that a run does nothing."""
    edge.rows(FILL, queue=queue, actor=actor, count=BACKLOG)


def _churn(edge: EdgeSetup) -> int:
    """Return the rows touched over QUIET_SECONDS; first wait until running work has ended."""
    _let_pass(1.5)
    since = edge.one(NOW)
    _let_pass(QUIET_SECONDS)
    return int(edge.one(CHURN, since=since))


def _operate(*words: str) -> int:
    return CliRunner().invoke(build(words[0]), list(words)).exit_code


def _let_pass(seconds: float) -> None:
    """Wait, so that something can be counted over that time."""
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, seconds + 5, "the time to pass")


def _cpu_seconds(processes: list[int]) -> float:
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _resident_bytes(process: int) -> int:
    pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
