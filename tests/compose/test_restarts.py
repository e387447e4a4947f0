"""Services end under load, by command or by crash: acknowledged instances arrive without an operator."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from support.compose_lab import GATEWAY, SERVICES, ComposeLab, wait_until

from gateway.errors import PeerAwayError

ARRIVE_SECONDS = 120.0
"""Must exceed worker_timeout_seconds (10) three times: up to two other workers are asked after a dead one."""
AGAIN_SECONDS = 60.0
"""The time until an instance is acknowledged again; must exceed the start of the edge's container."""


@dataclass
class Ledger:
    """What the edge acknowledged, as recorded by the sender."""

    acknowledged: set[str] = field(default_factory=set)
    failures: int = 0


@contextmanager
def load(lab: ComposeLab) -> Iterator[Ledger]:
    """Yield a ledger while a sender sends study after study, whatever the answers."""
    ledger = Ledger()
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            try:
                for sent in lab.sending(2):
                    if sent.accepted:
                        ledger.acknowledged.add(sent.instance.sop_instance_uid)
                    else:
                        ledger.failures += 1
            except PeerAwayError:
                ledger.failures += 1
            stop.wait(0.2)  # the rate of the load, not a wait for anything

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield ledger
    finally:
        stop.set()
        sender.join()


def wait_acknowledged(ledger: Ledger, more: int = 2) -> None:
    """Wait until the edge has accepted some more."""
    until = len(ledger.acknowledged) + more
    wait_until(lambda: len(ledger.acknowledged) >= until, AGAIN_SECONDS, "the edge to acknowledge again")


def wait_paid(lab: ComposeLab, ledger: Ledger) -> None:
    """Wait until each acknowledged instance and a result of it are in the PACS, and no delivery is open."""
    lab.wait_held(ledger.acknowledged, ARRIVE_SECONDS)
    unpaid = "SELECT count(*) FROM deliveries WHERE state NOT IN ('delivered', 'cancelled')"
    wait_until(lambda: lab.rows(unpaid) == [["0"]], ARRIVE_SECONDS, "every delivery to be paid")
    lab.wait_results(ledger.acknowledged, ARRIVE_SECONDS)


def end_each_in_turn(lab: ComposeLab, end: Callable[[str], object]) -> None:
    """End each service under load, and wait until it runs again; then check that everything arrives."""
    with load(lab) as ledger:
        for service in SERVICES:
            wait_acknowledged(ledger)
            before = lab.inspect(service)["State"]["StartedAt"]
            end(service)
            lab.wait_running_again(service, before)
        wait_acknowledged(ledger)
    lab.wait_well()
    wait_paid(lab, ledger)


@pytest.mark.guarantee("G6")
def test_a_restart_of_each_service_in_turn_loses_nothing(lab: ComposeLab) -> None:
    """`docker compose restart` of all thirteen, while instances come in."""
    end_each_in_turn(lab, lambda service: lab.compose("restart", service))


@pytest.mark.guarantee("G6")
def test_a_crash_of_each_service_in_turn_loses_nothing(lab: ComposeLab) -> None:
    """Kill -9 of all thirteen, while instances come in: Docker restarts each."""
    end_each_in_turn(lab, lab.kill)


@pytest.mark.guarantee("G6")
def test_a_killed_service_is_back_after_up(lab: ComposeLab) -> None:
    """Docker does not restart a service after `docker compose kill`; `docker compose up -d` starts it."""
    with load(lab) as ledger:
        for service in ("edge", "postgres", "actors-workers"):
            wait_acknowledged(ledger)
            lab.compose("kill", service)
            assert not lab.inspect(service)["State"]["Running"]
            lab.compose("up", "--detach")
        wait_acknowledged(ledger)
    lab.wait_well()
    wait_paid(lab, ledger)


@pytest.mark.guarantee("G1")
def test_the_edge_receives_while_postgresql_is_stopped(lab: ComposeLab) -> None:
    """`docker compose stop postgres`: the edge answers Success, also after its own restart."""
    lab.compose("stop", "postgres")
    study, originals = lab.accepted(2)
    with load(lab) as ledger:
        lab.compose("restart", "edge")
        wait_acknowledged(ledger)
    assert not lab.held(study)
    lab.compose("start", "postgres")
    lab.wait_well()
    ledger.acknowledged |= originals
    wait_paid(lab, ledger)


@pytest.mark.guarantee("G1")
def test_a_stop_under_load_drains_every_service(lab: ComposeLab) -> None:
    """`docker compose stop` of each part of the gateway: it ends by itself before Docker kills it."""
    with load(lab) as ledger:
        for service in GATEWAY:
            wait_acknowledged(ledger)
            lab.compose("stop", service)
            ended = lab.inspect(service)["State"]["ExitCode"]
            # periodiq holds nothing, and SIGTERM ends it: 128 + 15; after Docker's SIGKILL it would be 137
            assert ended == (143 if service == "scheduler" else 0), service
            lab.compose("start", service)
        wait_acknowledged(ledger)
    lab.wait_well()
    wait_paid(lab, ledger)


@pytest.mark.guarantee("G2")
@pytest.mark.guarantee("G6")
def test_queue_and_states_survive_the_containers(lab: ComposeLab) -> None:
    """`docker compose down` and `up`: waiting, finished and paused work is as before."""
    done, originals = lab.accepted(2)
    lab.wait_results(originals)
    lab.exec("edge", "mini-pacs", "destinations", "pause", "ORTHANC")
    waiting, others = lab.accepted(3)
    asked = "SELECT count(*) FROM result_sources s JOIN instances i ON i.id = s.source_instance_id"
    wait_until(
        lambda: lab.rows(f"{asked} WHERE i.study_instance_uid = '{waiting}'") == [["3"]],
        60,
        "the workers' results",
    )
    before = states(lab)
    lab.compose("down")
    lab.compose("up", "--detach")
    wait_until(lambda: lab.paused() == ["ORTHANC"], 120, "the edge to answer, and to know of the pause")
    wait_until(lab.pacs_answers, 120, "Orthanc to answer")
    assert states(lab) == before
    assert set(lab.done(done).values()) == {2}
    assert not lab.held(waiting)
    assert lab.paused() == ["ORTHANC"]
    lab.exec("edge", "mini-pacs", "destinations", "resume", "ORTHANC")
    lab.wait_held(others, 60, waiting)
    lab.wait_results(others)
    lab.wait_well()


def states(lab: ComposeLab) -> list[list[str]]:
    """Return every delivery with its state and attempts, and every message of a delivery."""
    deliveries = lab.rows("SELECT id, route, state, attempts FROM deliveries ORDER BY id")
    messages = lab.rows(
        "SELECT message_id, queue_name, delivery_id FROM dramatiq.queue"
        " WHERE delivery_id IS NOT NULL ORDER BY message_id"
    )
    return [*deliveries, *messages]
