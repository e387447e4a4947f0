"""The figures of this host, which need no PostgreSQL: disk, spool, certificates, the version."""

import os
import platform
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from gateway.config import Configuration
from gateway.diagnosis.certificates import validities
from gateway.errors import SpoolError
from gateway.metrics.current import CurrentConfiguration
from gateway.metrics.families import Samples, process_figures
from gateway.metrics.spool_usage import SpoolUsage
from gateway.processes.own_figures import figures_of
from gateway.register.unregistered import backlog
from gateway.spool.spool import Spool

BACKLOG_LIMIT = 100_000
"""Count the unregistered receptions up to this number, in some 0.3 s."""
STARTED_AT = time.time()
EDGE, CONSOLE = "edge", "console"
"""The peers of the certificates that the edge shows to its senders, and the console to browsers."""


class FromHost:
    """The figures of this host. `usage` counts the files of the spool in the background."""

    def __init__(self, current: CurrentConfiguration, usage: SpoolUsage) -> None:
        self._current = current
        self._spool = Spool(current().edge.data_root)
        self._usage = usage

    def __call__(self) -> Samples:
        """Return the figures; those that cannot be read are left out."""
        samples = Samples()
        samples.set("build_info", 1, version=version("mini-pacs-edge"), python=platform.python_version())
        samples.set("disk_reserve_bytes", self._current().edge.disk_reserve_mb << 20)
        with suppress(SpoolError, OSError):
            samples.set("disk_free_bytes", self._spool.free_bytes())
            waiting = backlog(self._spool, BACKLOG_LIMIT)
            samples.set("unregistered_instances", waiting.count)
            oldest = waiting.oldest
            seconds = 0.0 if oldest is None else (datetime.now(UTC) - oldest).total_seconds()
            samples.set("unregistered_oldest_seconds", max(seconds, 0.0))
        process_figures(
            samples,
            STARTED_AT,
            figures_of(os.getpid()),
            process="metrics",
            host=socket.gethostname(),
            pid=str(os.getpid()),
        )
        for place, usage in self._usage.usage.items():
            samples.set("spool_files", usage.files, place=place)
            samples.set("spool_bytes", usage.bytes, place=place)
        for peer, path in _certificates(self._current()):
            ends = [validity.ends for validity in validities(path)]
            if ends:  # a chain is valid as long as all of it
                samples.set("certificate_expiry_timestamp_seconds", min(ends).timestamp(), peer=peer)
        return samples


def _certificates(configuration: Configuration) -> list[tuple[str, Path]]:
    """Return the certificates that are shown: to senders, to browsers, and to each destination with TLS."""
    own, console = configuration.edge.tls, configuration.console.tls
    return [
        *([] if own is None else [(EDGE, own.certificate)]),
        *([] if console is None else [(CONSOLE, console.certificate)]),
        *(
            (destination.ae_title, destination.tls.certificate)
            for destination in configuration.destinations
            if destination.tls is not None and destination.tls.certificate is not None
        ),
    ]
