"""The deliveries that messages hold: claimed with them, taken by their actors, settled with them.

    claim    the consumer claims the deliveries of a target by the terms of `terms_of`
    take     the actor takes the delivery of its message, by `claimed_before`
    leave    when the peer took the instance, the attempt leaves the outcome in the message (`settle_later`)
    settle   the thread of the acks settles what was left, for a batch of messages (`settle`)

If the process dies, see gateway/forward/settle_together.py.
"""

from collections.abc import Sequence
from datetime import timedelta

from actors.middleware.running import running_message
from actors.queue.in_flight import FINISHED, SETTLED, UNSTARTED, InFlightMessage
from gateway import log
from gateway.config.forwarder import Forwarder
from gateway.database.tables.deliveries import Delivered
from gateway.database.tables.messages import DeliveryTerms, Terms, WorkerTerms
from gateway.errors import DatabaseUnavailableError
from gateway.forward.context import ForwardContext
from gateway.forward.deliver import ClaimedBefore, TakeClaim
from gateway.forward.sent import SentDelivery
from gateway.forward.settle_together import settle_together
from gateway.log import Stage


def terms_of(forwarder: Forwarder, queue_name: str) -> Terms | None:
    """Return how the deliveries of a queue are claimed with its messages; None if their actors claim them.

    Actors claim deliveries to an archive with a rate, after the wait for a slot (`gateway.forward.rate`), and
    those to an application that sends a study to one worker, because the claim may wake others of the study.
    """
    lease = timedelta(seconds=forwarder.lease_seconds)
    limited = {
        archive.ae_title
        for archive in (forwarder.orthanc, *forwarder.archives)
        if archive.max_instances_per_second is not None
    }
    for target in forwarder.targets.all:
        if target.queue != queue_name:
            continue
        if target.route.is_archive:
            return None if target.name in limited else DeliveryTerms(target.name, lease)
        application = forwarder.applications_in_force[target.name]
        if application.affinity == "instance":
            return WorkerTerms(target.name, lease, application.result_timeout)
    return None


def claimed_before(delivery_id: int) -> TakeClaim:
    """Return what takes the claim of a delivery that was claimed with the message of this thread."""
    message = running_message()

    def take(destination: str | None) -> ClaimedBefore | None:
        claim = None if message is None else message.take_delivery(delivery_id, destination)
        return None if claim is None or message is None else ClaimedBefore(claim, message.claimed_at)

    return take


def claimed_target() -> str | None:
    """Return the target of the delivery claimed with the message of this thread; None without one."""
    message = running_message()
    return None if message is None else message.claimed_target


def settle_later(sent: SentDelivery) -> bool:
    """Leave the outcome in the message of this thread; return False if the thread runs none."""
    message = running_message()
    if message is None or message.settling is not None:
        return False
    message.settling = sent
    return True


def settle(context: ForwardContext, batch: Sequence[InFlightMessage]) -> None:
    """Settle what the actors of these messages sent, and set the ending of each message.

    Raises:
        DatabaseUnavailableError: call it again with those that still have something to settle.
    """
    sent = [message.settling for message in batch if isinstance(message.settling, SentDelivery)]
    rows = [
        Delivered(one.claim, one.settlement, message.run[0], message.consumer, message.run[1])
        for message, one in zip(batch, sent, strict=True)
    ]
    try:
        for message, (held, deleted) in zip(batch, settle_together(context, sent, rows), strict=True):
            message.settling = None
            if deleted:
                message.ending = SETTLED
            else:
                # If the claim was lost, the message runs again: it may be the only one of its delivery.
                message.ending = FINISHED if held else UNSTARTED
    except DatabaseUnavailableError as error:
        for message, one in zip(batch, sent, strict=True):
            if message.settling is None or message.settle_waits:
                continue  # it is settled, or was logged before
            message.settle_waits = True
            delivery_id = one.claim.delivery_id
            log.write(Stage.DB, "settle_waits", level="warning", error=str(error), delivery_id=delivery_id)
        raise
