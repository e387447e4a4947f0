"""What the tests of Dramatiq's suite import from its `common`, which the sdist does not hold."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from dramatiq import Worker

RABBITMQ_USERNAME = RABBITMQ_PASSWORD = "guest"  # noqa: S105  nobody connects with it
RABBITMQ_CREDENTIALS = None

skip_in_ci = skip_on_windows = skip_on_pypy = lambda function: function
skip_unless_rabbit_mq = pytest.mark.skip("there is no RabbitMQ here")


@contextmanager
def worker(*args: Any, **keywords: Any) -> Iterator[Worker]:
    """Start a worker in this process, and stop it at the end."""
    started = Worker(*args, **keywords)  # type: ignore[no-untyped-call]
    try:
        started.start()  # type: ignore[no-untyped-call]
        yield started
    finally:
        started.stop()  # type: ignore[no-untyped-call]
