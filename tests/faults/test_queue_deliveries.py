"""Queue and deliveries together, with real actors and a real peer: a message that runs twice sends once."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import MakeEdge, Reconfigure
from support.black_hole import BlackHole
from support.edge_setup import EdgeSetup
from support.forwarding import Forwarding, forwarding
from support.launcher import Processes
from support.peers import Peer, peer
from support.synthetic_instances import Instance
from support.waiting import wait_until
from typer.testing import CliRunner

from cli.main import build
from gateway.database.migrate import migrate
from gateway.database.tables import consumers, destinations
from gateway.lab.layout import free_ports
from gateway.lab.postgres import EmbeddedPostgres


class Setting:
    """An edge in the mode pacs_only, and a PACS that answers as soon as `go_on` is set."""

    def __init__(self, edge: EdgeSetup, core: Forwarding, pacs: Peer) -> None:
        self.edge = edge
        self.core = core
        self.pacs = pacs
        self.go_on = threading.Event()
        self.arrived: list[str] = []
        pacs.answer = lambda request: self._answer(request.sop_instance_uid)

    def _answer(self, sop_instance_uid: str) -> int:
        self.arrived.append(sop_instance_uid)
        self.go_on.wait(60)
        return 0

    def receive(self, *instances: Instance) -> None:
        """Store the instances with their deliveries, and wake the queue."""
        for instance in instances:
            self.core.receive(instance)
        self.core.context.wakeup.wake("pacs")

    def wait_arrived(self, count: int, timeout: float = 10) -> None:
        """Wait until that many complete data sets have come to the PACS, answered or not."""
        wait_until(lambda: len(self.arrived) >= count, timeout, f"{count} instances at the PACS")


@pytest.fixture
def setting(make_edge: MakeEdge) -> Iterator[Setting]:
    """Yield the setting without actors."""
    edge = make_edge({"forwarder": {"mode": "pacs_only"}})
    with forwarding(edge) as core, peer(edge.configuration.forwarder.orthanc.port) as pacs:
        setting = Setting(edge, core, pacs)
        try:
            yield setting
        finally:
            setting.go_on.set()


def test_a_message_that_runs_twice_at_once_is_sent_once(setting: Setting) -> None:
    """The delivery is claimed by the first run, so the second one does nothing.

    The late ack of the first deletes nothing.
    """
    edge = setting.edge
    first, second = edge.actors("pacs", "pacs")
    instance = Instance()
    setting.receive(instance)
    setting.wait_arrived(1)
    # as a reaper does that takes a live consumer for dead
    assert (
        edge.run("UPDATE dramatiq.queue SET state = 'queued', consumer = NULL WHERE state = 'consumed'") == 1
    )
    setting.core.context.wakeup.wake("pacs")
    wait_until(lambda: edge.queued() == 0, 10, "the second run to end")
    assert edge.delivery(instance)["state"] == "in_flight"
    setting.go_on.set()
    assert edge.wait_state(instance, "delivered")["attempts"] == 1
    assert edge.rows("SELECT outcome, fenced FROM attempts") == [("delivered", False)]
    assert setting.arrived == [instance.sop_instance_uid]
    assert first.stop() == second.stop() == 0


def test_an_actor_that_resumes_after_its_lease_settles_nothing(make_edge: MakeEdge) -> None:
    """SIGSTOP in mid-send, the lease ends, another actor sends.

    After SIGCONT the late settle is only recorded.
    """
    edge = make_edge()
    port = edge.configuration.forwarder.orthanc.port
    orthanc = {"host": "127.0.0.1", "ae_title": "ORTHANC", "port": port, "timeout_s": 1.5}
    short = {"mode": "pacs_only", "lease_seconds": 2.5, "connect_timeout_seconds": 0.5, "workers": []}
    edge = make_edge({"forwarder": {**short, "orthanc": orthanc}})
    with forwarding(edge) as core, peer(port) as pacs:
        setting = Setting(edge, core, pacs)
        [sleeper] = edge.actors("pacs")
        instance = Instance()
        setting.receive(instance)
        setting.wait_arrived(1)
        sleeper.pause()
        try:
            setting.go_on.set()
            [other] = edge.actors("pacs")
            # the stopped process still holds the lock: the sweep frees the delivery when its lease ends
            edge.actors("sweep")
            edge.start("periodiq", "actors")
            edge.wait_state(instance, "delivered", timeout=75)
            assert setting.arrived == [instance.sop_instance_uid] * 2
        finally:
            sleeper.resume()
        wait_until(lambda: edge.one("SELECT count(*) FROM attempts WHERE fenced") == 1, 10, "the late settle")
        assert edge.delivery(instance)["state"] == "delivered"
        wait_until(lambda: edge.queued() == 0, 10, "the queue to be empty")
        other.stop()
        again = Instance()
        setting.receive(again)
        edge.wait_state(again, "delivered")  # by the stopped process
        assert edge.one("SELECT count(*) FROM attempts WHERE fenced") == 1
        sleeper.stop()


def test_the_late_settle_of_a_process_that_was_cut_off_changes_nothing(
    own_postgres: EmbeddedPostgres,
    reconfigure: Reconfigure,
    processes: Processes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its packets were lost in the middle of a send, and another process sent meanwhile.

    When the network is back, it continues by itself.
    """
    [own_postgres._port] = free_ports(1)
    own_postgres.start()
    direct = own_postgres.dsn()
    migrate(direct)
    monkeypatch.setenv("DATABASE_URL", direct)
    edge = EdgeSetup(reconfigure({"forwarder": {"mode": "pacs_only"}}), direct, processes)
    with edge.database.transaction() as session:
        destinations.configure(session, edge.configuration)
    with (
        BlackHole(own_postgres._port) as hole,
        forwarding(edge) as core,
        peer(edge.configuration.forwarder.orthanc.port) as pacs,
    ):
        setting = Setting(edge, core, pacs)
        through = direct.replace(f":{own_postgres._port}/", f":{hole.port}/")
        cut_off = edge.start("dramatiq", "actors", "-p", "1", "-t", "2", "-Q", "pacs", DATABASE_URL=through)
        cut_off.wait_for_line("ready for action", 30)
        instance = Instance()
        setting.receive(instance)
        setting.wait_arrived(1)
        [other] = edge.actors("pacs")
        hole.swallow()
        setting.wait_arrived(2)
        hole.heal()
        setting.go_on.set()
        edge.wait_state(instance, "delivered")
        wait_until(lambda: edge.one("SELECT count(*) FROM attempts WHERE fenced") == 1, 40, "the late settle")
        assert edge.delivery(instance)["state"] == "delivered"
        other.stop()
        again = Instance()
        setting.receive(again)
        edge.wait_state(again, "delivered")  # by the process that was cut off
        wait_until(lambda: edge.queued() == 0, 10, "the queue to be empty")
        assert setting.arrived == [instance.sop_instance_uid] * 2 + [again.sop_instance_uid]
        edge.kill()
        edge.close()


@pytest.mark.parametrize("others", ["live", "are dead too"])
def test_deliveries_in_flight_at_a_kill_run_again(setting: Setting, others: str) -> None:
    """Other processes run them; without one, the next process does."""
    edge = setting.edge
    [victim] = edge.actors("pacs")
    instances = [Instance() for _ in range(4)]  # of four studies, since a study begins with a single send
    setting.receive(*instances)
    setting.wait_arrived(4)
    if others == "live":
        edge.actors("pacs")
        victim.kill()
    else:
        victim.kill()
        edge.start("dramatiq", "actors", "-p", "1", "-t", "4", "-Q", "pacs")
    setting.wait_arrived(8, timeout=30)
    setting.go_on.set()
    for instance in instances:
        edge.wait_state(instance, "delivered")
    wait_until(lambda: edge.queued() == 0, 10, "the queue to be empty")
    assert len(setting.arrived) == 8


def test_a_dead_message_makes_its_delivery_dead_and_requeue_restores_both(setting: Setting) -> None:
    """It is dead at its third death, with the reason in `status` and `queue dead`; requeue sends it."""
    edge = setting.edge
    instance = Instance()
    setting.core.receive(instance)
    edge.run("UPDATE dramatiq.queue SET deaths = 2, alone = true")
    [victim] = edge.actors("pacs")
    setting.wait_arrived(1)
    victim.kill()
    setting.go_on.set()
    edge.actors("pacs")
    dead = edge.wait_state(instance, "dead")
    assert "died while running it (death 3)" in dead["last_error"]
    status = _told("status")
    assert status["overview"]["dead_messages"] == 1
    [finding] = [f["text"] for f in status["findings"] if f["key"] == "messages.dead"]
    assert "died while running it (death 3)" in finding
    [row] = _told("queue", "dead")["items"]
    assert (row["actor_name"], row["delivery_id"], row["deaths"]) == ("forward_to_pacs", dead["id"], 3)

    assert CliRunner().invoke(build("queue"), ["queue", "requeue", row["message_id"]]).exit_code == 0
    assert edge.wait_state(instance, "delivered")["attempts"] == 1
    assert setting.arrived == [instance.sop_instance_uid] * 2
    assert _told("status")["overview"]["dead_messages"] == 0


def test_undoing_a_wrongly_counted_death_restores_the_delivery(setting: Setting) -> None:
    """A consumer was reaped although it lives: both its message and the delivery wait again."""
    edge = setting.edge
    instance = Instance()
    setting.core.receive(instance)
    lost = 4711
    [(message_id,)] = edge.rows(
        "UPDATE dramatiq.queue SET state = 'consumed', consumer = %(lost)s, started_at = now(), deaths = 2"
        " RETURNING message_id::text",
        lost=lost,
    )
    with edge.database.statement() as session:
        consumers.register(session, lost, host="here", pid=1, queue_names=["pacs"], threads=1)
        assert consumers.without_lock(session) == [lost]
        [reaped] = consumers.reap(session, [lost])
        assert reaped.dead_lettered == 1
        assert edge.delivery(instance)["state"] == "dead"
        assert consumers.undo_deaths(session, [message_id], lost=[lost]) == 1
    assert edge.delivery(instance)["state"] == "pending"
    setting.go_on.set()
    edge.actors("pacs")
    assert edge.wait_state(instance, "delivered")["attempts"] == 1


def _told(*words: str) -> Any:
    result = CliRunner().invoke(build(words[0]), [*words, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
