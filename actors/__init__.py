"""The actor processes: `dramatiq actors -Q pacs` (or archives, workers, sweep), and `periodiq actors`.

Importing this package builds the broker and declares the actors. It opens no connection and starts no thread,
because Dramatiq and other programs may fork afterwards.
"""

from gateway.importing import importing

with importing():
    from actors.middleware import middleware_list
    from actors.process import ContextBoot, delivery_terms, faults, settle_messages, spool_guard
    from actors.queue.broker import build

    _broker = build([ContextBoot(), *middleware_list(faults)])
    _broker.guard = spool_guard
    _broker.terms = delivery_terms
    _broker.settle = settle_messages

    # After `build`: an actor is declared on the broker that exists when its module is imported.
    from actors import (
        forward_to_archive,
        forward_to_pacs,
        forward_to_worker,
        forward_unit,
        sweep,
        watch,
    )

__all__ = [
    "forward_to_archive",
    "forward_to_pacs",
    "forward_to_worker",
    "forward_unit",
    "sweep",
    "watch",
]
