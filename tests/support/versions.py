"""Versions of one SOP Instance UID, their deliveries, and an operator's commands."""

from typing import Any

from typer.testing import CliRunner

from cli.main import build
from gateway.database.tables import deliveries, selected_deliveries
from gateway.database.tables.selected_deliveries import Selection
from gateway.domain.delivery import State
from gateway.domain.routing import Route
from support.forwarding import Forwarding
from support.peers import Peer
from support.synthetic_instances import Instance

LARGE = b"\x01\x02" * 600_000

WAITING_LONG: dict[str, dict[str, Any]] = {
    "forwarder": {"max_retries": 3, "backoff_base_seconds": 600, "backoff_max_seconds": 600},
    "sweep": {"reconcile_grace_seconds": 0.01},
}
"""Changes of the configuration: a refused instance waits long, and the sweep has no grace period."""


def versions(
    core: Forwarding, route: Route = Route.PACS, *, count: int = 2
) -> tuple[list[Instance], list[int]]:
    """Receive versions of a new UID in this order; return them and the ids of their deliveries."""
    first = Instance()
    more = [
        Instance(first.sop_instance_uid, first.study_instance_uid, payload=bytes([n, n]) * 256)
        for n in range(1, count)
    ]
    instances = [first, *more]
    return instances, [owed(core, instance, route) for instance in instances]


def owed(core: Forwarding, instance: Instance, route: Route = Route.PACS) -> int:
    """Return the id of the delivery of exactly this version."""
    kept, _ = core.receive(instance)
    return int(
        core.edge.one(
            "SELECT id FROM deliveries WHERE instance_id = %(id)s AND route = %(route)s::route",
            id=kept.instance_id,
            route=route.value,
        )
    )


def state(core: Forwarding, delivery: int) -> str:
    """Return the state of that delivery."""
    return str(core.edge.one("SELECT state::text FROM deliveries WHERE id = %(id)s", id=delivery))


def messages(core: Forwarding, delivery: int) -> int:
    """Return the number of messages of that delivery."""
    return int(
        core.edge.one(
            "SELECT count(*) FROM dramatiq.queue WHERE delivery_id = %(id)s AND state = 'queued'", id=delivery
        )
    )


def take_messages(core: Forwarding) -> None:
    """Consume and ack every message."""
    core.edge.run("DELETE FROM dramatiq.queue")


def digests(pacs: Peer) -> list[str]:
    """Return the digests of the data sets that the PACS answered with Success, in that order."""
    return [taken.digest for taken in pacs.taken if taken.status == 0]


def requeue(core: Forwarding, delivery: int) -> None:
    """Retry or resend the delivery as an operator does."""
    with core.edge.database.transaction() as session:
        done = selected_deliveries.requeue(
            session, Selection(delivery_id=delivery), of=(State.DEAD, State.CANCELLED, State.DELIVERED)
        )
    assert len(done) == 1


def operate(*words: str) -> str:
    """Return what a command prints."""
    result = CliRunner().invoke(build(words[0]), list(words))
    assert result.exit_code == 0, result.output
    return result.output


def die(core: Forwarding, delivery: int) -> None:
    """Claim the delivery as a dead consumer, and enqueue its message again."""
    with core.edge.database.transaction() as session:
        claim = deliveries.claim(
            session,
            delivery,
            consumer=1,
            lease=core.edge.configuration.edge.duplicate_window,
            destination="ORTHANC",
        )
        assert claim is not None
    core.edge.run(
        "SELECT dramatiq.send('pacs', 'forward_to_pacs', jsonb_build_array(%(id)s), 4, now(), %(id)s)",
        id=delivery,
    )


def cancel(_: Forwarding, delivery: int) -> None:
    """Cancel the delivery as an operator does."""
    operate("deliveries", "cancel", "--delivery", str(delivery), "--yes")
