"""Send a message about the findings that were not reported yet, and record that they were.

If the process dies
    before the endpoint has the message   the next minute tells it
    after that, before the commit         the next minute tells it again: twice is better than never
"""

import socket
from collections.abc import Sequence
from datetime import timedelta

from gateway import log
from gateway.config import Configuration
from gateway.config.operation import Notify
from gateway.database.pool import Database
from gateway.database.tables import findings
from gateway.database.tables.findings import FindingRow
from gateway.log import Stage
from gateway.notify.endpoints import send
from gateway.notify.message import message_of


def tell(configuration: Configuration, database: Database) -> bool:
    """Send one message about everything that is new; return whether an endpoint took it.

    One endpoint is enough. Otherwise, while a webhook is away, the same mail would be sent each minute.
    """
    notify = configuration.notify
    if notify is None:
        return False
    with database.statement() as session:
        grace = timedelta(seconds=notify.after_seconds)
        rows = findings.untold(session, grace=grace, notes=notify.severity == "note")
    if not rows:
        return False
    errors = deliver(configuration, notify, rows)
    took = "" in errors.values()
    with database.transaction() as session:
        for endpoint, error in errors.items():
            findings.note_endpoint(session, endpoint, error)
        if took:
            findings.mark_told(session, [row.id for row in rows])
    return took


def deliver(configuration: Configuration, notify: Notify, rows: Sequence[FindingRow]) -> dict[str, str]:
    """Send one message about these findings; return why each endpoint failed, "" for one that took it."""
    errors = {}
    message = message_of(configuration.edge.ae_title, socket.gethostname(), rows)
    for endpoint, error in send(notify, message):
        errors[endpoint] = error
        if error:
            log.write(Stage.SWEEP, "notify_failed", level="warning", detail=endpoint, error=error)
        else:
            log.write(Stage.SWEEP, "notified", detail=endpoint, count=len(rows))
    return errors
