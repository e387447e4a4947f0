"""Consume the queues of the targets that the configuration names.

Dramatiq starts with the name of a route (`-Q archives`). The queues of its targets are known only when the
configuration is read, so they are declared when the worker boots, and again after the configuration changed.
"""

from dramatiq import Worker

from actors.queue.broker import EdgeBroker
from gateway import log
from gateway.config import Configuration
from gateway.domain.routing import Route, Target
from gateway.log import Stage


def consume(broker: EdgeBroker, worker: Worker, configuration: Configuration) -> None:
    """Declare the queue of each target whose route this process serves; a known one is left as it is."""
    served: set[str] | None = worker.consumer_whitelist or None
    targets = [one for one in configuration.forwarder.targets.all if served is None or one.route in served]
    for target in targets:
        if served is not None:
            served.add(target.queue)
        broker.declare_queue(target.queue)
    _warn_of_few_threads(worker, targets)


def _warn_of_few_threads(worker: Worker, targets: list[Target]) -> None:
    for route in Route:
        count = sum(target.route is route for target in targets)
        if count >= worker.worker_threads and count > 1:
            log.write(
                Stage.QUEUE,
                "few_threads",
                level="warning",
                count=worker.worker_threads,
                detail=f"{count} targets of {route.value} share {worker.worker_threads} threads: one that "
                f"hangs may delay the others; start this process with -t {count + 1} or more",
            )
