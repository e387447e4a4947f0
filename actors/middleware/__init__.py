"""What happens around every actor call: one behaviour a file, in an explicit list.

Left out of Dramatiq's default list, and why: Prometheus opens a port, Results and AgeLimit are not used,
Retries and Callbacks write messages of their own, Shutdown raises in the middle of a send that may finish.
"""

from collections.abc import Callable
from datetime import timedelta

from dramatiq.middleware import Middleware, TimeLimit
from periodiq import PeriodiqMiddleware

from actors.middleware.failure_log import FailureLog
from actors.middleware.injection import Injection
from actors.middleware.rates import Rates
from actors.middleware.retries import Retries
from actors.middleware.stale_claim import StaleClaim
from gateway.faults import Faults

TIME_LIMIT = timedelta(hours=6)
"""For one actor call, against a loop without end. Must exceed the largest instance over the slowest line:
each wait of a send has a far shorter deadline of its own, which is what ends a silent peer."""

_CHECK = timedelta(seconds=10)
_MILLISECOND = timedelta(milliseconds=1)

SKIP_DELAY = timedelta(hours=1)
"""A scheduled sweep that waited longer is dropped; periodiq's 30 s would drop the one after an outage."""


def middleware_list(faults: Callable[[], Faults] | None = None) -> list[Middleware]:
    """The list, in the order of `before` signals; `after` signals run through it backwards.

    Narration stands before Retries, to tell afterwards what Retries decided.
    """
    return [
        StaleClaim(),
        Rates(),
        FailureLog(),
        Retries(),
        PeriodiqMiddleware(skip_delay=int(SKIP_DELAY.total_seconds())),
        TimeLimit(time_limit=TIME_LIMIT // _MILLISECOND, interval=_CHECK // _MILLISECOND),  # type: ignore[no-untyped-call]
        *([Injection(faults)] if faults is not None else []),
    ]
