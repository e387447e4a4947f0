"""The package `tests` of Dramatiq's own suite: RedisBroker and RabbitmqBroker are the gateway's broker here.

`test_dramatiq_suite` copies this folder beside the tests of Dramatiq's sdist. The suite imports its brokers,
and their clients, by module; those clients are not installed. This package is imported before any of its
tests, also in the processes that `dramatiq tests.test_cli:broker` starts.
"""

import sys
from types import ModuleType

from .suite_broker import SuiteBroker, raise_connection_error


def _stand_in(name: str, **attributes: object) -> None:
    module = ModuleType(name)
    for key, value in attributes.items():
        setattr(module, key, value)
    sys.modules[name] = module


_stand_in("redis", exceptions=None, RedisError=ConnectionError)
_stand_in("dramatiq.brokers.redis", RedisBroker=SuiteBroker, MAINTENANCE_SCALE=1_000_000)
_stand_in("pika.exceptions", AMQPError=ConnectionError)
_stand_in("pika", exceptions=sys.modules["pika.exceptions"])
_stand_in(
    "dramatiq.brokers.rabbitmq",
    RabbitmqBroker=SuiteBroker,
    URLRabbitmqBroker=raise_connection_error,
    _IgnoreScaryLogs=raise_connection_error,
)
