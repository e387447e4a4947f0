"""The configuration that the exporter uses: that of config.yaml, read again when the file has changed.

The exporter only reads, so it takes no part in `mini-pacs config reload`, and follows the file by itself. A
file with an error changes nothing.
"""

from contextlib import suppress

from gateway import config
from gateway.config import Configuration
from gateway.errors import ConfigurationError


class CurrentConfiguration:
    """The last configuration that could be read. Two threads that call it at once may both read the file."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._changed_at = _time_of(configuration)

    def __call__(self) -> Configuration:
        """Return the configuration; read the file if it has changed."""
        changed_at = _time_of(self._configuration)
        if changed_at != self._changed_at:
            self._changed_at = changed_at
            with suppress(ConfigurationError):  # `mini-pacs config check` says what is wrong
                self._configuration = config.load(self._configuration.source)
        return self._configuration


def _time_of(configuration: Configuration) -> int | None:
    try:
        return configuration.source.stat().st_mtime_ns
    except OSError:
        return None
