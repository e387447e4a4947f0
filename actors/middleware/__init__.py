"""The middleware around every actor call: one behaviour per file, in one list.

Dramatiq's default list is not used. Prometheus opens a port; Results and AgeLimit are not needed; Retries and
Callbacks enqueue messages of their own; Shutdown raises in the middle of a send that may still finish.
"""

from collections.abc import Callable
from datetime import timedelta

from dramatiq.middleware import Middleware, TimeLimit
from periodiq import PeriodiqMiddleware

from actors.middleware.failure_log import FailureLog
from actors.middleware.injection import Injection
from actors.middleware.rates import Rates
from actors.middleware.retries import Retries
from actors.middleware.running import RunningMessage
from actors.middleware.scheduler import SchedulerHeartbeat
from actors.middleware.stale_claim import StaleClaim
from gateway.faults import Faults

TIME_LIMIT = timedelta(hours=6)
"""For one actor call, against endless loops. Must exceed the time of the largest instance over the slowest
network. It does not end a send to a silent peer: each wait of a send has a much shorter deadline."""

_CHECK = timedelta(seconds=10)
_MILLISECOND = timedelta(milliseconds=1)

SKIP_DELAY = timedelta(hours=1)
"""A scheduled sweep that waited longer is dropped. The default of 30 s would drop the first one after an
outage."""


def middleware_list(faults: Callable[[], Faults] | None = None) -> list[Middleware]:
    """Return the middleware. Signals `before` run in this order, signals `after` in the reverse order."""
    time_limit = TimeLimit(time_limit=TIME_LIMIT // _MILLISECOND, interval=_CHECK // _MILLISECOND)  # type: ignore[no-untyped-call]
    return [
        StaleClaim(),  # first: nothing else sees a message that does not run
        RunningMessage(),
        Rates(),
        FailureLog(),  # before Retries: its signal `after` runs when Retries has decided
        Retries(),
        PeriodiqMiddleware(skip_delay=int(SKIP_DELAY.total_seconds())),
        SchedulerHeartbeat(),
        time_limit,
        *([Injection(faults)] if faults is not None else []),
    ]
