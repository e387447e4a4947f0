"""Count the findings of `mini-pacs status`, in the background.

A diagnosis reads more than a scrape may cost, and may wait for a database that hangs. So a thread makes one
every half minute, and scrapes show its last result. It sends no C-ECHO: the breakers say what peers do.
"""

import threading
from collections import Counter
from datetime import UTC, datetime

from gateway import log
from gateway.diagnosis.configuration import certificates_of
from gateway.diagnosis.finding import Severity
from gateway.diagnosis.gather import Gathered, all_findings, read_database, read_spool
from gateway.log import Stage
from gateway.metrics.current import CurrentConfiguration
from gateway.metrics.families import Samples

PAUSE_SECONDS = 30.0


class FindingsWatch:
    """The number of findings by severity; nothing until the first diagnosis has ended."""

    def __init__(self, current: CurrentConfiguration, dsn: str) -> None:
        self._current = current
        self._dsn = dsn
        self._counts: Counter[Severity] | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="findings", daemon=True)

    def __call__(self) -> Samples:
        """Return the result of the last diagnosis."""
        samples = Samples()
        if self._counts is not None:
            for severity in Severity:
                samples.set("findings", self._counts[severity], severity=severity.value)
        return samples

    def start(self) -> None:
        """Diagnose now, and again and again."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, unless it diagnoses just now."""
        self._stopped.set()
        self._thread.join(timeout=1.0)

    def look(self) -> None:
        """Diagnose once."""
        configuration = self._current()
        gathered = Gathered(configuration)
        read_spool(gathered)
        read_database(gathered, self._dsn)
        found = all_findings(gathered, list(certificates_of(configuration, datetime.now(UTC))))
        self._counts = Counter(one.severity for one in found)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.look()
            except Exception as error:  # noqa: BLE001  the boundary of the thread: the other figures go on
                self._counts = None
                log.write(
                    Stage.DB,
                    "not_diagnosed",
                    level="error",
                    error=f"unforeseen {type(error).__name__}",
                    detail=log.frames(error),
                )
            self._stopped.wait(PAUSE_SECONDS)
