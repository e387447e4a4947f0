"""Actors for the tests of the queue, on the product's broker; run by `dramatiq queue_actors`.

Each run leaves a row in the table `ran`, which the tests create.
"""

import importlib
import os
import signal
import time

import dramatiq

from actors.middleware import middleware_list
from actors.queue.broker import build
from gateway.database.queries import Query
from gateway.errors import DatabaseUnavailableError

broker = build(middleware_list())
if os.environ.get("NO_POLL"):
    importlib.import_module("support.no_poll")
_RAN = Query("ran", "INSERT INTO ran (number, pid) VALUES (%(number)s, %(pid)s)")

PUNCTUAL_SECONDS = 0.1


def _leave(number: int) -> None:
    with broker.database.statement() as session:
        session.run(_RAN, number=number, pid=os.getpid())


@dramatiq.actor(queue_name="q")
def noop(_number: int = 0) -> None:
    """Do nothing."""


@dramatiq.actor(queue_name="q")
def pause(_number: int = 0) -> None:
    """Wait as long as a fast send takes."""
    time.sleep(0.01)


@dramatiq.actor(queue_name="q")
def note(number: int) -> None:
    """Leave a row."""
    _leave(number)


@dramatiq.actor(queue_name="q")
def hold(number: int, seconds: float) -> None:
    """Leave a row, then wait that long."""
    _leave(number)
    time.sleep(seconds)


@dramatiq.actor(queue_name="q")
def die(number: int) -> None:
    """Leave a row, then kill the process, as a segmentation fault does."""
    _leave(number)
    os.kill(os.getpid(), signal.SIGKILL)


@dramatiq.actor(queue_name="q")
def fail(number: int) -> None:
    """Leave a row, then raise an unforeseen error."""
    _leave(number)
    raise ValueError("an actor that always fails")


@dramatiq.actor(queue_name="q")
def lose_postgres(number: int) -> None:
    """Leave a row, then raise the error of an unreachable PostgreSQL."""
    _leave(number)
    raise DatabaseUnavailableError("PostgreSQL is away just now")


@dramatiq.actor(queue_name="q")
def be_punctual(_number: int, due_epoch: float) -> None:
    """Leave a row with the delay in milliseconds if the message runs early, or more than 100 ms late."""
    late = time.time() - due_epoch
    if not 0 <= late <= PUNCTUAL_SECONDS:
        _leave(round(late * 1000))
