"""Offer senders the transfer syntaxes that every archive accepts, with `as_archives`.

The actor processes ask the archives (`gateway.forward.inquiry`); a receiver reads the answers every few
seconds. Before the first answer, or if the archives have no transfer syntax in common, all are accepted.
While PostgreSQL is away, the last ones are offered.
"""

from gateway import log
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.tables import syntaxes
from gateway.dicom.policy import Contexts
from gateway.domain.routing import Mode
from gateway.domain.transfer_syntaxes import common
from gateway.log import Stage


class OfferedSyntaxes:
    """What one receiver offers at present; `refresh` reads it again."""

    def __init__(self) -> None:
        self.current: tuple[str, ...] = ()

    def refresh(self, configuration: Configuration, database: Database, contexts: Contexts) -> None:
        """Read what the archives accept, and use it for the next associations.

        Raises:
            DatabaseError: the last ones stay.
        """
        if not configuration.edge.accepts_as_archives:
            return
        forwarder = configuration.forwarder
        archives = [] if forwarder.mode is Mode.WORKERS_ONLY else forwarder.all_archives
        with database.statement() as session:
            known = syntaxes.known(session, [one.ae_title for one in archives])
        offered = common(known)
        if offered != self.current:
            detail = f"{len(offered)}: {', '.join(offered)}" if offered else "all"
            log.write(Stage.RECEIVE, "syntaxes_offered", detail=detail)
        self.current = contexts.transfer_syntaxes = offered
