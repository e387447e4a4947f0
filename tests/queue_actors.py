"""Actors for the tests of the queue, on the product's broker; run by `dramatiq queue_actors`.

What ran leaves a row in the table `ran`, which the tests create.
"""

import os
import signal
import time

import dramatiq

from actors.broker import build
from actors.middleware import explicit
from gateway.store.queries import Query

broker = build(explicit())
_RAN = Query("ran", "INSERT INTO ran (number, pid, due) VALUES (%(number)s, %(pid)s, %(due)s::timestamptz)")


def _leave(number: int, due: str | None = None) -> None:
    with broker.database.statement() as session:
        session.run(_RAN, number=number, pid=os.getpid(), due=due)


@dramatiq.actor(queue_name="q")
def noop(_number: int = 0) -> None:
    """Nothing."""


@dramatiq.actor(queue_name="q")
def pause(_number: int = 0) -> None:
    """As long as a fast send takes."""
    time.sleep(0.01)


@dramatiq.actor(queue_name="q")
def note(number: int) -> None:
    """Leave a row."""
    _leave(number)


@dramatiq.actor(queue_name="q")
def note_due(number: int, due: str) -> None:
    """Leave a row that says when it was due."""
    _leave(number, due)


@dramatiq.actor(queue_name="q")
def hold(number: int, seconds: float) -> None:
    """Leave a row, then take that long."""
    _leave(number)
    time.sleep(seconds)


@dramatiq.actor(queue_name="q")
def die(number: int) -> None:
    """Leave a row, then take the process along, as a segmentation fault does."""
    _leave(number)
    os.kill(os.getpid(), signal.SIGKILL)


@dramatiq.actor(queue_name="q")
def fail(number: int) -> None:
    """Leave a row, then raise what nobody expected."""
    _leave(number)
    raise ValueError("an actor that always fails")


@dramatiq.actor(queue_name="q")
def be_punctual(number: int, due_epoch: float) -> None:
    """Leave a row if it is more than a second late, or early."""
    if not 0 <= time.time() - due_epoch <= 1:
        _leave(number)
