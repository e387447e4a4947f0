"""The thread of a receiver process that checks whether spool and database still belong together.

It checks every few seconds, writes the time marks, and logs when the answer changes. If somebody deleted a
folder of the spool, it makes the folder again; `spool.id` shows that the disk of the spool is mounted. If the
folder of this process is gone, deleted or hidden by a disk that was mounted later, the process ends: the
parent starts another one, which makes its folder anew.

If the process dies
    after a folder was made   it is durable; the files that were in it stay lost, and their rows show it
"""

import os
import signal
import threading

from gateway import log
from gateway.database.pool import Database
from gateway.errors import DatabaseError, SpoolError, UnknownSpoolError
from gateway.log import Stage
from gateway.spool.identity import SpoolIdentity
from gateway.spool.spool import Spool

CHECK_SECONDS = 2.0
UNKNOWN_SECONDS = 0.5
"""The pause while the pair is unknown."""


class IdentityWatch:
    """The thread of one process."""

    def __init__(self, identity: SpoolIdentity, spool: Spool, database: Database) -> None:
        self._identity = identity
        self._spool = spool
        self._database = database
        self._problem = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="identity-watch", daemon=True)

    def start(self) -> None:
        """Start to check."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for its end."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._check()
            self._stopped.wait(UNKNOWN_SECONDS if self._problem else CHECK_SECONDS)

    def _check(self) -> None:
        try:
            with self._database.statement() as session:
                self._identity.check(session)
            self._identity.mark(self._database)
        except UnknownSpoolError as error:
            self._tell(str(error))
        except DatabaseError:
            pass  # away: the registrar logs it; the last answer stays
        except SpoolError as error:
            log.write(Stage.DB, "no_time_mark", level="warning", error=str(error))
        else:
            self._tell("")
            if not self._spool.has_receiver():
                deleted = self._spool.receiver_was_deleted()
                log.write(
                    Stage.RECEIVE,
                    "receiver_moves",
                    level="warning",
                    detail=f"{self._spool.receiver} was deleted; starting again with another folder"
                    if deleted
                    else f"the disk of {self._spool.root} was mounted; starting again on it",
                )
                os.kill(os.getpid(), signal.SIGTERM)
            self._make_folders()  # after the signal: senders are let in again as soon as the pair is known

    def _make_folders(self) -> None:
        """Make the folders again that somebody deleted."""
        try:
            missing = self._spool.missing_folders()
            if missing:
                self._spool.prepare()
        except SpoolError:
            return  # the heartbeat tells why this process cannot write; the next check tries again
        for name in missing:
            folder = self._spool.root / name
            log.write(
                Stage.RECEIVE, "folder_made", level="warning", detail=f"{folder} was gone; it is there again"
            )

    def _tell(self, problem: str) -> None:
        if problem and problem != self._problem:
            log.write(Stage.DB, "spool_unknown", level="error", error=problem)
        elif self._problem and not problem:
            log.write(Stage.DB, "spool_known", detail=str(self._spool.root))
        self._problem = problem
