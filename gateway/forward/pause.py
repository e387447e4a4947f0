"""End the pauses of destinations whose time is over.

A pause with an end has a message of the queue `sweep`, which is due then. The sweep of each minute is for a
pause whose message was lost, for example by `mini-pacs reset-db`.

If the process dies
    before the commit   the message runs again, or the sweep ends the pause
    after it            the consumers look once a second, and send what waits
"""

from gateway import log
from gateway.database.pool import Database
from gateway.database.tables import pauses
from gateway.database.wakeup import Wakeup
from gateway.forward.context import STAGE


def end_pause(database: Database, wakeup: Wakeup, ae_title: str) -> bool:
    """End the pause if its time is over; tell whether it was."""
    with database.transaction() as session:
        route = pauses.end_pause(session, ae_title)
    if route is None:
        return False
    log.write(STAGE[route], "resumed", level="warning", destination=ae_title, detail="the pause had an end")
    wakeup.wake(route)
    return True
