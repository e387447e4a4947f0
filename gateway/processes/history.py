"""What changed since the version of config.yaml that runs, and the record of a start."""

import socket

from gateway.config import Configuration
from gateway.database.session import Session
from gateway.database.tables import configurations
from gateway.database.tables.configurations import Version
from gateway.errors import ConfigurationError
from gateway.processes.difference import Change, difference
from gateway.processes.document import document_of, read_document


def changes_since(version: Version | None, configuration: Configuration) -> list[Change]:
    """Return what a configuration changes against the version that runs; nothing before the first one."""
    if version is None or version.digest == configuration.digest:
        return []
    try:
        before = read_document(version.document, configuration.source)
    except ConfigurationError as error:
        reason = str(error).splitlines()[0]
        return [Change("", f"version {version.version} cannot be compared: {reason}", None)]
    return difference(before, configuration)


def record_start(session: Session, configuration: Configuration) -> None:
    """Record the configuration with which `mini-pacs serve` starts, if it is not the version that runs.

    The other processes take it, too, if their file is the same.
    """
    changes = changes_since(configurations.taken(session), configuration)
    configurations.record(
        session,
        digest=configuration.digest,
        document=document_of(configuration),
        difference=[change.text for change in changes],
        by=f"the start of mini-pacs serve on {socket.gethostname()}",
    )
