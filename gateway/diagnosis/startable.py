"""Find what would keep the processes from starting, although the configuration is valid.

Check certificates, folders and the address to listen on, as the user who runs the command. Change nothing:
for a folder that does not exist, check the nearest folder above it that exists.
"""

import errno
import getpass
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from gateway.config import Configuration
from gateway.config.edge import Edge
from gateway.dicom.tls import acceptor_context
from gateway.domain.instance import Place
from gateway.errors import ConfigurationError
from gateway.forward.peer import address_of
from gateway.spool.partial import PARTIAL
from gateway.spool.places import ORPHANED

HANGS = "its disk hangs"
WRITE_SECONDS = 4.0
"""Longer than the flush of a slow disk; a start of Python is in it, too."""
_WRITE = """
import os, sys
for folder in sys.argv[1:]:
    try:
        try:
            os.close(os.open(folder, os.O_RDWR | os.O_TMPFILE, 0o600))
        except OSError:  # not every file system has files without a name
            import tempfile  # slow to import
            tempfile.TemporaryFile(dir=folder).close()
        next(iter(os.scandir(folder)), None)
    except OSError as error:
        print(error.errno, folder)
        break
"""
_hanging: list["subprocess.Popen[str]"] = []


def refusals(configuration: Configuration) -> Iterator[str]:
    """Yield a sentence for each reason, with key and value; none where every process would start."""
    yield from _certificates(configuration)
    yield from _folders(configuration.edge)
    yield from _address(configuration.edge)


def in_use(edge: Edge) -> bool:
    """Tell whether a process listens on the edge's port, as the edge does while it runs."""
    return _bind_error(edge) == errno.EADDRINUSE


def _certificates(configuration: Configuration) -> Iterator[str]:
    tls = configuration.edge.tls
    try:
        if tls is not None:
            acceptor_context(tls.certificate, tls.key, tls.ca, where="edge.tls")
    except ConfigurationError as error:
        yield str(error)
    for destination in configuration.destinations:
        try:
            address_of(destination, configuration.forwarder)
        except ConfigurationError as error:
            yield str(error)


def _folders(edge: Edge) -> Iterator[str]:
    # where a folder of the spool does not exist yet, the nearest existing folder above it is checked
    parts = (edge.data_root / part for part in (*Place, PARTIAL, ORPHANED))
    reason = _not_writable(edge.data_root, *parts)
    if reason is not None:
        yield f"edge.data_root = {edge.data_root}: {reason}"
        return
    reason = _not_appendable(edge.log_path)
    if reason is not None:
        yield f"edge.log_path = {edge.log_path}: {reason}"


def _not_appendable(log_path: Path) -> str | None:
    try:
        if log_path.is_dir():
            return "it is a folder; the path of a file is expected"
        if log_path.exists():
            os.close(os.open(log_path, os.O_WRONLY | os.O_APPEND))
            return None
    except OSError as error:
        return _reason("write", log_path, error)
    return _not_writable(log_path.parent)


def _not_writable(*folders: Path) -> str | None:
    """Return why one of the folders cannot be created or written; None where all can."""
    found = []
    for folder in folders:
        nearest = folder
        try:
            while not nearest.exists():
                nearest = nearest.parent
            if not nearest.is_dir():
                return f"{nearest} is a file; a folder is expected"
        except OSError as error:
            return _reason("write in", nearest, error)
        found.append(nearest)
    return _try_to_write(list(dict.fromkeys(found)))


def _try_to_write(folders: list[Path]) -> str | None:
    """Create a file in each folder, because access rights do not show a read-only or full file system.

    A process of its own does it. On a disk that hangs it cannot be killed, and this one must still end.
    """
    words = [sys.executable, "-I", "-S", "-c", _WRITE, *map(str, folders)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # noqa: S603
    try:
        answer, _ = process.communicate(timeout=WRITE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        _hanging.append(process)  # nobody waits for it
        return f"writing to {folders[0]} does not end within {WRITE_SECONDS:g} s: {HANGS}"
    code, _, path = answer.strip().partition(" ")
    return _reason("write in", Path(path), OSError(int(code), os.strerror(int(code)))) if code else None


def _reason(verb: str, path: Path, error: OSError) -> str:
    return f"{_user()} cannot {verb} {path}: {error.strerror or error}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # a container may run under a user id without a name


def _address(edge: Edge) -> Iterator[str]:
    code = _bind_error(edge)
    if code in {None, errno.EADDRINUSE}:
        return
    key = f"edge.port = {edge.port}" if code == errno.EACCES else f"edge.bind_address = {edge.bind_address}"
    reason = os.strerror(code) if code is not None and code > 0 else "that host name has no address"
    yield f"{key}: cannot listen on {edge.bind_address}:{edge.port}: {reason}"


def _bind_error(edge: Edge) -> int | None:
    """Bind as the SCP does; return the errno, -1 for an unknown host name, None where it works."""
    family = socket.AF_INET6 if ":" in edge.bind_address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((edge.bind_address, edge.port))
    except socket.gaierror:
        return -1
    except UnicodeError:  # the host name has an empty or too long label
        return -1
    except OSError as error:
        return error.errno or -1
    return None
