"""The endpoints of `notify`: who should be told, and is not."""

from collections.abc import Iterator

from gateway.config import Configuration
from gateway.database.tables.overview import Overview
from gateway.diagnosis.finding import Finding, Holds, problem
from gateway.times import moment


def failing(view: Overview, configuration: Configuration) -> Iterator[Finding]:
    """Yield each configured endpoint that did not take the last message."""
    notify = configuration.notify
    configured = {
        "webhook": notify is not None and notify.webhook is not None,
        "mail": notify is not None and notify.mail is not None,
    }
    for one in view.failing_endpoints:
        if not configured.get(one.endpoint):
            continue
        times = "the last message" if one.failures == 1 else f"the last {one.failures:,} messages"
        where = "url" if one.endpoint == "webhook" else "host"
        yield problem(
            f"notify.failing:{one.endpoint}",
            f"The {one.endpoint} of notify did not take {times} since {moment(one.failing_since)}: "
            f"{one.last_error}",
            "it gets no messages about findings; no image waits for it",
            f"correct notify.{one.endpoint}.{where}, or repair the server; `mini-pacs notify test` tries it",
            since=one.failing_since,
            holds=Holds.NOTHING,
        )
