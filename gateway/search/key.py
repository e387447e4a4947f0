"""Read the key of the search by accession number and patient ID.

The key is a file outside of the spool, the database and every bundle, so a copy of those cannot be searched.
"""

from pathlib import Path

from gateway.config.edge import Edge
from gateway.domain.search_hash import KEY_BYTES
from gateway.errors import ConfigurationError


def search_key(edge: Edge) -> bytes | None:
    """Return the key of edge.search_key; None where the key is not set, so that nothing is hashed.

    Raises:
        ConfigurationError: the file cannot be read, does not hold 32 bytes, or lies within edge.data_root.
    """
    path = edge.search_key
    if path is None:
        return None
    where = f"edge.search_key = {path}"
    if path.resolve().is_relative_to(edge.data_root.resolve()):
        raise ConfigurationError(f"{where}: it lies in edge.data_root; a backup of the files would hold it")
    try:
        key = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{where}: {error.strerror}; `head -c {KEY_BYTES} /dev/urandom > {Path(path).name}` makes a key"
        ) from error
    if len(key) != KEY_BYTES:
        raise ConfigurationError(f"{where}: {len(key)} bytes; exactly {KEY_BYTES} random bytes are expected")
    return key
