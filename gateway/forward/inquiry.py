"""Ask the archives which transfer syntaxes they accept, for `edge.accepted_transfer_syntaxes: as_archives`.

An association is requested that proposes usual Storage SOP Classes in each transfer syntax, one in each
presentation context, and nothing is sent on it (PS3.8 §9.3.2.2). A transfer syntax counts as accepted if the
archive accepts it for one of these SOP Classes. An archive is asked when the process starts, every
INTERVAL_SECONDS, and soon after it did not accept the context of an instance.

If the process dies, the next one asks. The last answers stay in PostgreSQL, so that receivers offer the same
while an archive is away.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from gateway import log
from gateway.config import Configuration
from gateway.config.destination import Destination
from gateway.config.forwarder import Forwarder
from gateway.database.pool import Database
from gateway.database.tables import syntaxes
from gateway.dicom.contexts import ProposedContext
from gateway.dicom.requestor import associate
from gateway.domain.routing import Route
from gateway.domain.transfer_syntaxes import ASKED
from gateway.errors import DatabaseError, PeerError
from gateway.forward.context import STAGE
from gateway.forward.peer import address_of

INTERVAL_SECONDS = 600.0
RETRY_SECONDS = 10.0
"""Until an archive that did not answer is asked again."""

SOP_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",  # CT
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
    "1.2.840.10008.5.1.4.1.1.3.1",  # Ultrasound Multi-frame
)
"""With each transfer syntax that is asked for, they fit into one association."""


def ask(configuration: Configuration, archive: Destination) -> dict[str, bool]:
    """Return for each transfer syntax whether the archive accepts it; nothing if it accepts no SOP Class.

    Raises:
        PeerError: it does not answer.
    """
    contexts = [ProposedContext(sop_class, uid) for uid in ASKED for sop_class in SOP_CLASSES]
    peer = address_of(archive, configuration.forwarder)
    with associate(peer, calling_ae_title=configuration.edge.ae_title, contexts=contexts) as association:
        accepted = {context.transfer_syntax_uid for context in association.accepted}
    return {uid: uid in accepted for uid in ASKED} if accepted else {}


class Inquiry:
    """The thread of one actor process that asks the archives of its routes.

    `configuration` is asked for at each round, because it may be changed.
    """

    def __init__(
        self, configuration: Callable[[], Configuration], database: Database, routes: Sequence[Route]
    ) -> None:
        self._configuration = configuration
        self._database = database
        self._routes = routes
        self._asked = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="inquiry", daemon=True)

    def start(self) -> None:
        """Start to ask."""
        self._thread.start()

    def ask_soon(self) -> None:
        """Ask again: an archive did not accept a context."""
        self._asked.set()

    def stop(self) -> None:
        """End the thread soon; do not wait for an archive that does not answer."""
        self._stopped = True
        self._asked.set()

    def _run(self) -> None:
        while not self._stopped:
            all_answered = self.ask_all()
            self._asked.wait(INTERVAL_SECONDS if all_answered else RETRY_SECONDS)
            self._asked.clear()

    def ask_all(self) -> bool:
        """Ask each archive of the routes once; tell whether all have answered."""
        configuration = self._configuration()
        if not configuration.edge.accepts_as_archives:
            return True
        answered = [self._note(configuration, one) for one in self._archives(configuration.forwarder)]
        return all(answered)

    def _archives(self, forwarder: Forwarder) -> list[Destination]:
        return [one for one in forwarder.all_archives if forwarder.route_of(one.ae_title) in self._routes]

    def _note(self, configuration: Configuration, archive: Destination) -> bool:
        try:
            answers = ask(configuration, archive)
        except PeerError:
            return False  # its breaker and its probes say that it is away
        if not answers:
            return True
        changed: dict[str, bool] = {}
        with suppress(DatabaseError), self._database.statement() as session:
            changed = syntaxes.note(session, archive.ae_title, answers)
        for uid, accepts in changed.items():
            log.write(
                STAGE[configuration.forwarder.route_of(archive.ae_title)],
                "syntax_accepted" if accepts else "syntax_declined",
                level="warning",
                destination=archive.ae_title,
                detail=f"transfer syntax {uid}, otherwise than before",
            )
        return True
