"""A peer that answers C-ECHO but no C-STORE: only a C-STORE closes its breaker, and status shows it."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from conftest import MakeEdge
from support.forwarding import QUICK, Forwarding, forwarding, workers_of
from support.peers import ABORT, Peer, after
from support.synthetic_instances import Instance
from support.waiting import wait_until

from gateway.database.tables import breakers, destinations
from gateway.database.tables.overview import overview
from gateway.diagnosis.findings import findings
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route
from gateway.forward.deliver import forward_to_pacs, forward_to_worker
from gateway.forward.probe import probe

pytestmark = pytest.mark.guarantee("G2")

STATE = "SELECT breaker::text, max_outstanding FROM destinations WHERE ae_title = %(title)s"


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core, in this process."""
    with forwarding(make_edge({"forwarder": {**QUICK, "max_retries": 1}})) as core:
        yield core


def breaker(core: Forwarding, title: str = "ORTHANC") -> str:
    """Return the state of a destination's breaker."""
    return str(core.edge.rows(STATE, title=title)[0][0])


def probe_now(core: Forwarding, route: Route = Route.PACS, title: str = "ORTHANC") -> bool:
    """Probe at once; return whether that closed the breaker."""
    core.edge.run("UPDATE destinations SET next_probe_at = now()")
    return probe(core.context, route, title)


def shown(core: Forwarding, title: str = "ORTHANC") -> str:
    """Return what `mini-pacs status` prints about a destination; empty if it prints nothing."""
    lease = timedelta(seconds=core.edge.configuration.forwarder.lease_seconds)
    with core.edge.database.statement() as session:
        said = findings(overview(session, lease=lease), None)
    return "".join(finding.text for finding in said if finding.text.startswith(title))


def opened_by_aborts(core: Forwarding, pacs: Peer) -> list[Instance]:
    """Return three instances of three studies, at each of which the PACS aborted."""
    pacs.answer = lambda _: ABORT
    instances = [Instance() for _ in range(3)]
    for instance in instances:
        assert forward_to_pacs(core.context, core.owed(instance)) is Outcome.BROKEN
    assert breaker(core) == "open"
    return instances


def test_an_answer_to_c_echo_does_not_close_a_breaker_that_c_stores_opened(
    core: Forwarding, pacs: Peer
) -> None:
    """Each probe sends one instance, and `status` shows what the PACS answers; a C-STORE closes it."""
    instances = opened_by_aborts(core, pacs)
    for _ in range(4):
        before = len(pacs.taken)
        assert not probe_now(core)
        assert breaker(core) == "open"
        assert len(pacs.taken) == before + 1
        assert "ORTHANC answers C-ECHO but takes no C-STORE since" in shown(core)
    pacs.answer = lambda _: 0
    probe_now(core)
    assert breaker(core) == "closed"
    assert "takes no C-STORE" not in shown(core)
    delivered = [i for i in instances if core.edge.delivery(i)["state"] == "delivered"]
    assert len(delivered) == 1


def test_probes_by_c_store_use_up_no_retries(core: Forwarding, pacs: Peer) -> None:
    """A PACS that hangs all night makes no delivery dead: a probe does not count against its instance."""
    instances = opened_by_aborts(core, pacs)
    for _ in range(9):
        probe_now(core)
    assert {core.edge.delivery(instance)["state"] for instance in instances} == {"pending"}


def test_a_probe_prefers_an_instance_that_has_not_failed(core: Forwarding, pacs: Peer) -> None:
    """Three bad instances opened the breaker: a good one that arrives is sent next, and closes it."""
    bad = {instance.sop_instance_uid for instance in opened_by_aborts(core, pacs)}
    pacs.answer = lambda request: ABORT if request.sop_instance_uid in bad else 0
    good = Instance()
    core.owed(good)
    probe_now(core)
    assert core.edge.delivery(good)["state"] == "delivered"
    assert breaker(core) == "closed"


def test_a_pacs_is_probed_with_one_instance_at_a_time(core: Forwarding, pacs: Peer) -> None:
    """While it hangs at one instance, further probes send no other."""
    opened_by_aborts(core, pacs)
    for _ in range(3):
        core.owed(Instance())
    go_on = threading.Event()
    pacs.answer = after(go_on)
    trying = threading.Thread(target=probe_now, args=(core,))
    trying.start()
    try:
        in_flight = "SELECT count(*) FROM deliveries WHERE route = 'pacs' AND state = 'in_flight'"
        wait_until(lambda: core.edge.one(in_flight) == 1, 10, "an instance to be on its way")
        for _ in range(3):
            probe_now(core)
            assert core.edge.one(in_flight) == 1
    finally:
        go_on.set()
        trying.join(60)
    assert breaker(core) == "closed"


def test_a_breaker_that_c_stores_opened_stays_open_without_an_instance(core: Forwarding, pacs: Peer) -> None:
    """With no open delivery, C-ECHO does not close it; the next instance does."""
    opened_by_aborts(core, pacs)
    core.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'pacs'")
    pacs.answer = lambda _: 0
    assert not probe_now(core)
    assert breaker(core) == "open"
    instance = Instance()
    core.owed(instance)
    probe_now(core)
    assert core.edge.delivery(instance)["state"] == "delivered"
    assert breaker(core) == "closed"


def test_a_declined_context_does_not_close_the_breaker(core: Forwarding, pacs: Peer) -> None:
    """No C-STORE was answered: the instance is dead, the breaker stays open."""
    opened_by_aborts(core, pacs)
    core.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'pacs'")
    core.context.associations.close()
    pacs.accepted_sop_classes = frozenset({"1.2.840.10008.5.1.4.1.1.4"})
    declined = Instance()
    core.owed(declined)
    probe_now(core)
    assert core.edge.delivery(declined)["state"] == "dead"
    assert breaker(core) == "open"


@pytest.mark.parametrize("threshold", [1, 3])
def test_a_hanging_worker_is_probed_with_one_instance(make_edge: MakeEdge, threshold: int) -> None:
    """Its breaker closes for one instance, opens at its failure, and closes for good at its success."""
    edge = make_edge({"forwarder": {**QUICK, "breaker_failures": threshold, "max_retries": 9}})
    [worker, *_] = edge.configuration.forwarder.workers
    title = worker.ae_title
    with forwarding(edge) as core, workers_of(core) as workers:
        edge.run(
            "UPDATE destinations SET paused = true WHERE route = 'workers' AND ae_title <> %(t)s", t=title
        )
        workers[title].answer = lambda _: ABORT
        deliveries = [core.owed(Instance(), Route.WORKERS) for _ in range(threshold + 2)]
        for delivery in deliveries[:threshold]:
            assert forward_to_worker(core.context, delivery) is Outcome.BROKEN
        assert breaker(core, title) == "open"
        since = "SELECT changed_at FROM destinations WHERE ae_title = %(title)s"
        before = edge.one(since, title=title)
        assert f"{title} takes no C-STORE" in shown(core, title)
        for _ in range(2):
            assert probe_now(core, Route.WORKERS, title)
            assert edge.one("SELECT dramatiq.room('workers', 8)") == 1
            assert f"{title} answers C-ECHO but takes no C-STORE" in shown(core, title)
            core.due()
            assert forward_to_worker(core.context, deliveries[-1]) is Outcome.BROKEN
            assert breaker(core, title) == "open"
            assert edge.one(since, title=title) == before
        workers[title].answer = lambda _: 0
        assert probe_now(core, Route.WORKERS, title)
        core.due()
        assert forward_to_worker(core.context, deliveries[-1]) is Outcome.DELIVERED
        assert edge.rows(STATE, title=title) == [
            ("closed", edge.configuration.forwarder.worker_max_outstanding)
        ]
        assert not shown(core, title)


def test_a_restart_keeps_a_worker_limited_to_one_instance(core: Forwarding) -> None:
    """Writing the configuration again keeps the limit of one, and remembers the configured limit."""
    with core.edge.database.transaction() as session:
        breakers.note_failure(
            session,
            "APP01",
            Route.WORKERS,
            instance_id=1,
            reason="silent",
            at_once=True,
            probe_by_store=True,
            threshold=3,
            probe_wait=core.edge.configuration.edge.duplicate_window,
        )
        assert breakers.half_open(session, "APP01", threshold=3, answers="C-ECHO")
        destinations.configure(session, core.edge.configuration)
    assert core.edge.rows(STATE, title="APP01") == [("closed", 1)]
    with core.edge.database.transaction() as session:
        breakers.note_well(session, "APP01", by_store=True)
    bound = core.edge.configuration.forwarder.worker_max_outstanding
    assert core.edge.rows(STATE, title="APP01") == [("closed", bound)]


def test_status_names_a_pacs_that_hangs_before_its_timeout(core: Forwarding, pacs: Peer) -> None:
    """Its breaker is closed; the age of the sends counts, and whether it takes others."""
    assert forward_to_pacs(core.context, core.owed(Instance())) is Outcome.DELIVERED
    go_on = threading.Event()
    hanging = [Instance() for _ in range(3)]
    uids = {instance.sop_instance_uid for instance in hanging}
    hang = after(go_on)
    pacs.answer = lambda request: hang(request) if request.sop_instance_uid in uids else 0
    threads = [
        threading.Thread(target=forward_to_pacs, args=(core.context, core.owed(instance)))
        for instance in hanging
    ]
    for thread in threads:
        thread.start()
    try:
        in_flight = "SELECT count(*) FROM deliveries WHERE route = 'pacs' AND state = 'in_flight'"
        wait_until(lambda: core.edge.one(in_flight) == 3, 10, "the instances to be on their way")
        assert not shown(core)
        age(core, 100)
        text = shown(core)
        assert text.startswith("ORTHANC has not answered 3 instances, the oldest for 10")
        assert "it took nothing since" in text
        assert breaker(core) == "closed"
        assert forward_to_pacs(core.context, core.owed(Instance())) is Outcome.DELIVERED
        assert "it takes others" in shown(core)
    finally:
        go_on.set()
        for thread in threads:
            thread.join(60)
    assert not shown(core)


def test_status_does_not_count_the_sends_of_a_process_that_is_gone(core: Forwarding, pacs: Peer) -> None:
    """They are claimed again; the PACS is not the cause."""
    go_on = threading.Event()
    pacs.answer = after(go_on)
    thread = threading.Thread(target=forward_to_pacs, args=(core.context, core.owed(Instance())))
    thread.start()
    try:
        in_flight = "SELECT count(*) FROM deliveries WHERE route = 'pacs' AND state = 'in_flight'"
        wait_until(lambda: core.edge.one(in_flight) == 1, 10, "the instance to be on its way")
        age(core, 100)
        assert shown(core)
        core.die()
        wait_until(lambda: not shown(core), 10, "the lock to be released")
    finally:
        go_on.set()
        thread.join(60)


def age(core: Forwarding, seconds: float) -> None:
    """Make every send older by that time, and what was sent before."""
    by = timedelta(seconds=seconds)
    core.edge.run("UPDATE deliveries SET lease_until = lease_until - %(by)s WHERE state = 'in_flight'", by=by)
    core.edge.run("UPDATE attempts SET ended_at = ended_at - %(by)s", by=by)
