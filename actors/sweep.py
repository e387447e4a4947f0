"""The actors of the queue `sweep`: the sweep of each minute, the deadlines of results, the ends of pauses."""

import dramatiq
from periodiq import cron

from actors import process
from gateway.domain.contract import END_PAUSE, EXPIRE_RESULT, EXPIRE_UNIT, SWEEP
from gateway.forward.pause import end_pause as end
from gateway.sweep import run, unit_repair
from gateway.sweep.context import SweepContext
from gateway.sweep.expire import expire_one, is_held_back


@dramatiq.actor(actor_name=SWEEP.actor_name, queue_name=SWEEP.queue_name, periodic=cron("* * * * *"))
def sweep() -> None:
    """Run every verb of the sweep, each for a slice of time. A second run at the same time does no harm."""
    context = process.context()
    run.each_minute(
        SweepContext(
            context.configuration,
            context.database,
            context.spool,
            context.wakeup,
            sliced=True,
            identity=context.identity,
        )
    )


@dramatiq.actor(actor_name=EXPIRE_RESULT.actor_name, queue_name=EXPIRE_RESULT.queue_name)
def expire_result(expectation_id: int) -> None:
    """Act on the deadline of a result: ask another worker, or mark it timed out; do nothing if it came.

    While old receptions are unregistered, the deadline is left to the verb `expire` of the sweep.
    """
    context = process.context()
    if is_held_back(context.spool):
        return
    expire_one(context.configuration, context.database, context.wakeup, expectation_id)


@dramatiq.actor(actor_name=EXPIRE_UNIT.actor_name, queue_name=EXPIRE_UNIT.queue_name)
def expire_unit(unit_id: int) -> None:
    """Act on the deadline of the result of a series or study, as `expire_result` does."""
    context = process.context()
    if is_held_back(context.spool):
        return
    unit_repair.expire_one(context.configuration, context.database, context.wakeup, unit_id)


@dramatiq.actor(actor_name=END_PAUSE.actor_name, queue_name=END_PAUSE.queue_name)
def end_pause(ae_title: str) -> None:
    """End the pause of a destination; do nothing if an operator ended it, or gave it another end."""
    context = process.context()
    end(context.database, context.wakeup, ae_title)
