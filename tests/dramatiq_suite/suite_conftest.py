"""The fixtures of Dramatiq's suite on the gateway's broker: its conftest.py, which the sdist lacks."""

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq import Worker
from dramatiq.rate_limits.backends import StubBackend as RateLimiterBackend
from dramatiq.results.backends import StubBackend as ResultBackend

from .common import worker
from .suite_broker import SuiteBroker


@pytest.fixture
def stub_broker() -> Iterator[SuiteBroker]:
    """Yield the broker of the test, on an empty queue."""
    broker = SuiteBroker()
    broker.flush_all()
    broker.emit_after("process_boot")
    dramatiq.set_broker(broker)
    yield broker
    broker.flush_all()
    broker.close()


@pytest.fixture
def stub_worker(stub_broker: SuiteBroker) -> Iterator[Worker]:
    """Its worker, in this process."""
    with worker(stub_broker, worker_timeout=100, worker_threads=32) as started:
        yield started


@pytest.fixture
def redis_broker(stub_broker: SuiteBroker) -> SuiteBroker:
    """Return the same broker to the tests of Dramatiq on Redis."""
    return stub_broker


@pytest.fixture
def redis_worker(stub_worker: Worker) -> Worker:
    """Its worker."""
    return stub_worker


@pytest.fixture
def rabbitmq_broker(stub_broker: SuiteBroker) -> SuiteBroker:
    """Return the same broker to the tests of Dramatiq on RabbitMQ."""
    return stub_broker


@pytest.fixture
def rabbitmq_worker(stub_worker: Worker) -> Worker:
    """Its worker."""
    return stub_worker


@pytest.fixture
def rate_limiter_backend() -> RateLimiterBackend:
    """Dramatiq's own, in memory."""
    return RateLimiterBackend()  # type: ignore[no-untyped-call]


@pytest.fixture
def result_backend() -> ResultBackend:
    """Dramatiq's own, in memory."""
    return ResultBackend()


@pytest.fixture
def redis_result_backend(result_backend: ResultBackend) -> ResultBackend:
    """Return the same backend."""
    return result_backend


@pytest.fixture
def pickle_encoder() -> Iterator[dramatiq.PickleEncoder]:
    """Messages are pickled."""
    before = dramatiq.get_encoder()
    encoder = dramatiq.PickleEncoder()
    dramatiq.set_encoder(encoder)
    yield encoder
    dramatiq.set_encoder(before)


@pytest.fixture
def start_cli() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start `dramatiq` on a broker of the suite; stopped at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def run(broker: str, *, extra_args: list[str] | None = None, **keywords: Any) -> subprocess.Popen[bytes]:
        SuiteBroker().flush_all()
        words = [str(Path(sys.executable).parent / "dramatiq"), broker, "--worker-shutdown-timeout", "5000"]
        process = subprocess.Popen([*words, *(extra_args or [])], **keywords)
        started.append(process)
        return process

    yield run
    for process in started:
        process.terminate()
        process.wait()


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Backoffs are the same in each run."""
    random.seed(1337)
