"""A wrong spool or database: no process does harm to either, and all goes on with the right one."""

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from conftest import MakeEdge
from support.edge_setup import EdgeSetup
from support.forwarding import QUICK, forwarding, pacs_of
from support.peers import peer
from support.swaps import SWAPS, Swap, empty_folder
from support.synthetic_instances import Instance
from support.waiting import wait_until

from cli import reset as reset_command
from gateway.database import reset
from gateway.database.tables import deliveries
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route
from gateway.errors import AssociationRejectedError, DatabaseRefusedError, PeerError, UnknownSpoolError
from gateway.forward.attempt import Attempt
from gateway.forward.deliver import forward_to_pacs
from gateway.lab.postgres import EmbeddedPostgres
from gateway.spool.marks import begin_epoch, read_marks
from gateway.sweep.run import sweep
from gateway.sweep.unregistered import registration_of

pytestmark = [pytest.mark.guarantee("G1"), pytest.mark.guarantee("G2"), pytest.mark.guarantee("G6")]

LEASE = timedelta(minutes=5)
CHANGES: dict[str, dict[str, Any]] = {
    "edge": {"receivers": 1},
    "forwarder": {**QUICK, "mode": "pacs_only"},
}


@pytest.fixture(params=sorted(SWAPS))
def swap(request: pytest.FixtureRequest) -> Swap:
    """Every wrong pair in turn."""
    return SWAPS[request.param]


def refusal(edge: EdgeSetup) -> AssociationRejectedError | None:
    """Return how an association is rejected; None if it is accepted."""
    try:
        with edge.association([Instance().context]):
            pass
    except AssociationRejectedError as error:
        return error
    return None


def wait_until_received(edge: EdgeSetup, instance: Instance) -> None:
    """Send until it is accepted, as a modality does."""

    def accepted() -> bool:
        try:
            return edge.send(instance) == [0]
        except PeerError:  # rejected, or aborted by a receiver that starts again on the right disk
            return False

    wait_until(accepted, 30, "the SCP to receive again")


def test_running_processes_wait_and_go_on_by_themselves(
    make_edge: MakeEdge, postgres: EmbeddedPostgres, swap: Swap
) -> None:
    """The SCP rejects for now, the actors claim nothing, the sweep does not run; nothing dies of its age."""
    edge = make_edge(CHANGES)
    edge.serve()
    edge.actors("pacs", "sweep")
    owed, later = Instance(), Instance()
    assert edge.send(owed) == [0]
    edge.settle()
    edge.run("UPDATE deliveries SET owed_since = now() - interval '100 hours'")
    with swap(edge, postgres):
        sentence = edge.wait_log(outcome="spool_unknown", timeout=30)["error"]
        assert "`mini-pacs db rebuild`" in sentence or "read" in sentence
        rejected = refusal(edge)
        assert rejected is not None
        assert rejected.is_transient
        wait_until(
            lambda: (
                {"actors-pacs", "actors-sweep"}
                <= {line["process"] for line in edge.log(outcome="database_away")}
            ),
            30,
            "the actors to say that they wait",
        )
        with peer(edge.configuration.forwarder.orthanc.port) as pacs:
            # The PACS is there, but what is owed waits. The sweep would be logged each time that it ran.
            refused = edge.start("mini-pacs", "sweep")
            assert refused.wait(60) == 1, refused.text()
            assert not pacs.taken
    with peer(edge.configuration.forwarder.orthanc.port) as pacs:
        wait_until_received(edge, later)
        edge.wait_state(owed, "delivered", timeout=60)
        edge.wait_state(later, "delivered", timeout=60)
        assert set(pacs.uids()) == {owed.sop_instance_uid, later.sop_instance_uid}
        edge.kill()


def test_processes_that_start_on_a_wrong_pair_wait(
    make_edge: MakeEdge, postgres: EmbeddedPostgres, swap: Swap
) -> None:
    """They log the sentence; with the right pair back they receive and deliver without a restart."""
    edge = make_edge(CHANGES)
    instance = Instance()
    with swap(edge, postgres):
        edge.scp = edge.start("mini-pacs", "serve")
        edge.start("dramatiq", "actors", "-p", "1", "-t", "2", "-Q", "pacs")
        wait_until(lambda: bool(edge.log(outcome="listening")), 30, "the SCP to listen")
        # It may let one in before it has asked the database: what is kept then is registered later.
        rejected = wait_until(lambda: refusal(edge), 30, "the SCP to reject")
        assert rejected is not None
        assert rejected.is_transient
        wait_until(
            lambda: {"edge", "actors-pacs"} <= {line["process"] for line in edge.log(outcome="waiting")},
            30,
            "both to say that they wait",
        )
    with peer(edge.configuration.forwarder.orthanc.port):
        wait_until_received(edge, instance)
        edge.wait_state(instance, "delivered", timeout=60)
        edge.kill()


def test_commands_refuse_and_status_says_why(
    make_edge: MakeEdge, postgres: EmbeddedPostgres, swap: Swap
) -> None:
    """`sweep`, `sweep purge` and `reset-db` change nothing; `status --check` ends with 1."""
    edge = make_edge(CHANGES)
    with forwarding(edge) as core:
        core.receive(Instance())
    with swap(edge, postgres):
        for words in (
            ("sweep",),
            ("sweep", "purge"),
            ("reset-db", "--yes", "--files"),
            ("status", "--check"),
        ):
            process = edge.start("mini-pacs", *words)
            assert process.wait(60) == 1, (words, process.text())
            text = " ".join(process.text().split())  # `status` breaks its lines
            assert "o image is received, sent or deleted" in text, (words, text)
    assert edge.one("SELECT count(*) FROM deliveries WHERE state = 'pending'") == 1


def test_a_file_behind_an_unmounted_disk_is_not_lost(make_edge: MakeEdge, postgres: EmbeddedPostgres) -> None:
    """Whatever attempt is made, the delivery does not die of it; nor does the sweep count it as missing."""
    edge = make_edge(CHANGES)
    with forwarding(edge) as core, pacs_of(core) as pacs:
        delivery_id = core.owed(Instance())
        with edge.database.statement() as session:
            edge.identity.check(session)
        with empty_folder(edge, postgres):
            with pytest.raises(UnknownSpoolError):
                forward_to_pacs(core.context, delivery_id)
            assert edge.one("SELECT state::text FROM deliveries") == "pending"
        with edge.database.statement() as session:
            claim = deliveries.claim(
                session,
                delivery_id,
                consumer=core.context.consumer(),
                lease=LEASE,
                destination=edge.configuration.forwarder.orthanc.ae_title,
            )
        assert claim is not None
        with empty_folder(edge, postgres):
            attempt = Attempt(
                core.context, claim, Route.PACS, edge.configuration.forwarder.orthanc, began=time.monotonic()
            )
            with pytest.raises(UnknownSpoolError):
                attempt.run()
            with pytest.raises(UnknownSpoolError):
                sweep(core.sweeping())
        assert not pacs.taken
        edge.run("UPDATE deliveries SET lease_until = now() - interval '1 second' WHERE state = 'in_flight'")
        assert sweep(core.sweeping(), ("rescue",))["rescue"]["rescued"] == 1
        assert edge.one("SELECT attempts FROM deliveries") == 0
        assert forward_to_pacs(core.context, delivery_id) is Outcome.DELIVERED


def reset_db(edge: EdgeSetup) -> dict[str, object]:
    """Run the command; return its document."""
    process = edge.start("mini-pacs", "reset-db", "--yes", "--json")
    assert process.wait(60) == 0, process.text()
    document: dict[str, object] = json.loads(process.text())
    return document


def test_what_was_received_before_a_reset_is_never_registered(make_edge: MakeEdge) -> None:
    """A reception that waits for its registration has the older epoch; its file goes to orphaned/."""
    edge = make_edge(CHANGES)
    with forwarding(edge) as core:
        waiting = core.received(Instance())
        assert reset_db(edge)["instances"] == 0
        assert edge.identity.epoch == 2
        with edge.database.statement() as session:
            edge.identity.check(session)
        assert registration_of(core.sweeping()).register([waiting]) == []
        assert waiting.is_done
        assert edge.one("SELECT count(*) FROM instances") == 0
        core.spool.close_receiver()
        assert reset_db(edge)["orphaned"] == 1
        core.spool.open_receiver()


def test_a_reset_that_was_killed_is_ended_by_the_next_one(make_edge: MakeEdge) -> None:
    """The spool has the new epoch, and the database does not: nothing goes on until the reset runs again."""
    edge = make_edge(CHANGES)
    with forwarding(edge) as core:
        core.receive(Instance())
    begin_epoch(edge.identity.root)
    process = edge.start("mini-pacs", "sweep")
    assert process.wait(60) == 1
    assert "`mini-pacs reset-db` to end the reset" in process.text()
    assert edge.one("SELECT count(*) FROM instances") == 1
    assert reset_db(edge)["instances"] == 1
    with edge.database.statement() as session:
        edge.identity.check(session)
    assert edge.identity.epoch == 3


def test_a_reset_that_the_database_refuses_changes_nothing(
    make_edge: MakeEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pair stays known, so the processes go on."""
    edge = make_edge(CHANGES)
    before = read_marks(edge.spool.root)

    def refuse(_: object) -> None:
        raise DatabaseRefusedError("permission denied", "42501")

    monkeypatch.setattr(reset, "forget", refuse)
    with pytest.raises(DatabaseRefusedError):
        reset_command._forget(edge.database, edge.identity)
    assert read_marks(edge.spool.root) == before
    with edge.database.statement() as session:
        edge.identity.check(session)


def test_a_receiver_does_not_acknowledge_in_an_epoch_that_ended(make_edge: MakeEdge) -> None:
    """A reset-db between envelope and answer: the sender sends again."""
    edge = make_edge(CHANGES)
    edge.identity.require_epoch(1)
    reset_db(edge)
    with pytest.raises(UnknownSpoolError, match="epoch 2"):
        edge.identity.require_epoch(1)
