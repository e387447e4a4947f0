"""The configuration of this process, which `mini-pacs config reload` exchanges while it runs.

config.yaml is the only source: PostgreSQL says which version all processes are to take, by its digest, and
each process reads its own file. Code that uses the configuration reads `current` at each use. Work in
progress keeps the values that it began with.

    a version is proposed   read the file, check it, and answer whether this process can take it
    the version is taken    take what was checked, also if the file has changed since
    a version was taken     this process missed that (it was frozen, cut off, or just starting): it reads
    earlier                 the file, and takes it if it is that version

If the process dies
    after its answer   it reads the file at its next start; the others are not held up
"""

from collections.abc import Callable
from time import monotonic

from gateway import config, log
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import configurations, destinations, processes
from gateway.database.tables.configurations import PROPOSED, CurrentVersion
from gateway.database.tables.processes import ProcessKind
from gateway.errors import GatewayError
from gateway.log import Stage
from gateway.processes.difference import changed_keys, difference
from gateway.processes.document import with_values_of_start
from gateway.processes.keys import AT_RESTART

CONFIGURE_SECONDS = 5.0
AGAIN_SECONDS = 5.0
"""Between two readings of a file that is not the version that was taken."""

Prepare = Callable[[Configuration], Callable[[], None]]
"""Builds what a process needs for a configuration, and returns the function that exchanges it.

Building may raise a GatewayError; the exchange must not fail.
"""


class LiveConfiguration:
    """The configuration of one process; safe across threads, because each use reads one attribute.

    `current` has the values that count now. `loaded` is what the file said; it differs where a key is taken
    at a start only.
    """

    def __init__(
        self,
        configuration: Configuration,
        kind: ProcessKind,
        prepare: Prepare,
        *,
        loaded: Configuration | None = None,
        taken: Callable[[Configuration], None] | None = None,
    ) -> None:
        self._is_configured = True
        self._taken_at = 0.0
        self.current = configuration
        self._prepare = prepare
        self._kind = kind
        self._taken = taken
        self._prepared: tuple[Configuration, Configuration, Callable[[], None]] | None = None
        self._answered: int | None = None
        self._next_look = 0.0
        self._problem = ""
        self._set_loaded(loaded or configuration)

    def _set_loaded(self, loaded: Configuration) -> None:
        self.loaded = loaded
        self.digest = loaded.digest
        waiting = changed_keys(self.current, loaded)
        self.restart_for = tuple(
            sorted(key for key in waiting if self._kind in AT_RESTART.get(key, frozenset()))
        )

    def follow(self, session: Session, process_id: str) -> bool:
        """Answer a proposed version, or take the one that was taken; tell whether this process took one."""
        version = configurations.current(session)
        if version is None:
            return False
        if version.state == PROPOSED:
            if version.version != self._answered:
                processes.answer(session, process_id, version.version, self._why_not(version))
                self._answered = version.version
            return False
        return version.digest != self.digest and self._take(version)

    def configure(self, database: Database) -> None:
        """Write the destinations of a version that was just taken, once every process has taken it.

        Before, a process could claim a delivery for a destination that it does not know yet. A process that
        does not take the version holds this up for CONFIGURE_SECONDS at most.
        """
        if self._is_configured:
            return
        with database.transaction() as session:
            late = monotonic() > self._taken_at + CONFIGURE_SECONDS
            if not late and processes.are_behind(session, self.digest):
                return
            destinations.configure(session, self.current)
        self._is_configured = True

    def _why_not(self, version: CurrentVersion) -> str | None:
        """Read and check the file; return why this process cannot take that version, None if it can."""
        self._prepared = None
        source = self.loaded.source
        try:
            loaded = self.loaded if version.digest == self.digest else config.load(source)
            if loaded.digest != version.digest:
                return f"its file {source} has other values: copy the same config.yaml to every host"
            current = with_values_of_start(loaded, self.current)
            self._prepared = (loaded, current, self._prepare(current))
        except GatewayError as error:
            return str(error)
        return None

    def _take(self, version: CurrentVersion) -> bool:
        if self._prepared is None or self._prepared[0].digest != version.digest:
            if monotonic() < self._next_look:
                return False
            self._next_look = monotonic() + AGAIN_SECONDS
            problem = self._why_not(version)
            if problem is not None:
                self._tell(version, problem)
                return False
        assert self._prepared is not None
        loaded, current, exchange = self._prepared
        self._prepared = None
        changes = difference(self.loaded, loaded)
        exchange()
        self.current = current
        self._is_configured, self._taken_at = False, monotonic()
        self._set_loaded(loaded)
        self._problem = ""
        if self._taken is not None:
            self._taken(loaded)
        log.write(
            Stage.DB,
            "configuration_taken",
            detail=f"version {version.version}: {'; '.join(change.text for change in changes)}",
            count=len(changes),
        )
        return True

    def _tell(self, version: CurrentVersion, problem: str) -> None:
        if problem != self._problem:
            log.write(
                Stage.DB,
                "configuration_differs",
                level="warning",
                error=problem,
                detail=f"version {version.version} of the configuration is not taken by this process",
            )
        self._problem = problem
