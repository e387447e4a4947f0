"""The actors that watch the edge: one examines it each minute, the other reports the findings.

Both are in the queue of the sweep. A webhook that hangs holds one thread for `notify.timeout_seconds`, and
delays no delivery: those have queues and processes of their own. While PostgreSQL cannot be used, neither
runs: then a thread of the same process reports the outage (gateway/notify/outage.py).
"""

import dramatiq
from periodiq import cron

from actors import process
from gateway.diagnosis import watch as examination
from gateway.domain.contract import NOTIFY, WATCH
from gateway.notify.tell import tell


@dramatiq.actor(actor_name=WATCH.actor_name, queue_name=WATCH.queue_name, periodic=cron("* * * * *"))
def watch() -> None:
    """Examine the edge and keep the rows of its findings."""
    context = process.context()
    if examination.watch(context.configuration, context.database, context.wakeup):
        process.findings_recorded()


@dramatiq.actor(actor_name=NOTIFY.actor_name, queue_name=NOTIFY.queue_name)
def notify() -> None:
    """Report findings that opened or closed to the webhook and the mail server of `notify`.

    If no endpoint takes the message, the next minute sends it again.
    """
    context = process.context()
    tell(context.configuration, context.database)
