"""The support bundle of `mini-pacs diagnose --bundle`: facts for support, without secrets or patients.

Findings, rows and log lines hold UIDs and AE titles, and no attribute of a patient (G8). No file of the spool
is read. The configuration holds no secret; DATABASE_URL is written as host, port, database and user only.
"""

import io
import platform
import sys
import tarfile
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import orjson

from gateway.config import Configuration
from gateway.database import dsn as dsn_text
from gateway.database.tables import server
from gateway.diagnosis.examine import Examined
from gateway.errors import DatabaseError

LOG_BYTES = 2 << 20
PACKAGES = (
    "mini-pacs-edge",
    "dramatiq",
    "dramatiq-pg",
    "pynetdicom",
    "pydicom",
    "psycopg2-binary",
    "pydantic",
)
HIDDEN = "(not shown)"
_SECRETS = ("password", "secret", "token", "url", "username")
"""A key of config.yaml with one of these words in its name is not shown."""


def write(path: Path, seen: Examined, dsn: str) -> None:
    """Write the bundle as a .tar.gz that only this user can read."""
    configuration = seen.gathered.configuration
    parts = {
        "findings.json": _json([one.document() for one in seen.findings]),
        "checks.txt": "".join(f"{c.mark} {c.name}: {c.text}\n" for c in seen.checks).encode(),
        "overview.json": _json(seen.gathered.view),
        "configuration.json": _json(without_secrets(configuration)),
        "versions.json": _json(_versions()),
        "postgresql.json": _json(_postgres(dsn)),
        "edge.log": _last_lines(configuration.edge.log_path),
    }
    path.touch(mode=0o600)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in parts.items():
            entry = tarfile.TarInfo(f"mini-pacs-bundle/{name}")
            entry.size = len(content)
            entry.mtime = int(time.time())
            entry.mode = 0o600
            archive.addfile(entry, io.BytesIO(content))


def without_secrets(configuration: Configuration) -> dict[str, object]:
    """Return the effective configuration, without the values of keys that may hold a secret."""
    hidden: dict[str, object] = _hide(configuration.model_dump(mode="json"))
    return hidden


def _hide(section: dict[str, object]) -> dict[str, object]:
    return {name: _hidden(name, value) for name, value in section.items()}


def _hidden(name: str, value: object) -> object:
    if isinstance(value, dict):
        return _hide(value)
    if isinstance(value, list):
        return [_hide(one) if isinstance(one, dict) else one for one in value]
    return HIDDEN if value and any(word in name for word in _SECRETS) else value


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0], "platform": platform.platform()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _postgres(dsn: str) -> dict[str, object]:
    content: dict[str, object] = {"where": dsn_text.described(dsn)}
    try:
        with server.observed(dsn) as session:
            content["version"] = server.version(session)
            content["tables"] = server.sizes(session)
    except DatabaseError as error:
        content["error"] = str(error)
    return content


def _last_lines(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            size = file.tell()
            file.seek(max(size - LOG_BYTES, 0))
            content = file.read(LOG_BYTES)
    except OSError as error:
        return f"{path}: {error.strerror}\n".encode()
    return content if size <= LOG_BYTES else content.partition(b"\n")[2]


def _json(value: object) -> bytes:
    option = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(value, default=_plain, option=option)


def _plain(value: object) -> object:
    return str(value)  # durations
