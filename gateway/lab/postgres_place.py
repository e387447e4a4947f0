"""Where the files of a PostgreSQL of the lab are, and which user it runs as.

PostgreSQL refuses to run as root. As root the server runs as an unprivileged user, which must be able to
reach its folder and its programs (`binaries`). If that user cannot reach the wanted folder, the files are
placed below /var/tmp instead. postgres.py starts the server.
"""

import hashlib
import os
import pwd
import shutil
from contextlib import suppress
from pathlib import Path

from gateway.errors import LabError
from gateway.lab.binaries import reachable

_SOCKET_PATH_MAX = 100  # sun_path holds 108 bytes; PostgreSQL adds a lock file of a longer name beside it
_USERS = ("pgserver", "postgres", "nobody")
_ELSEWHERE = Path("/var/tmp")  # noqa: S108  folders below it are made with mkdir and checked for their owner


class PostgresPlace:
    """The folders and the user of a cluster that is wanted in `data`."""

    def __init__(self, data: Path) -> None:
        self.user = _unprivileged_user(data)
        """The user of the server; None: our own."""
        self.notice: str | None = None
        """A message for the user about the place of the files; usually None."""
        wanted = data.absolute()
        # a link means that an earlier start put the files elsewhere
        is_here = reachable(wanted.parent, self.user) and not wanted.is_symlink()
        self.data = wanted if is_here else _substitute(wanted)
        self._wanted = wanted
        if self.data != wanted:
            self.notice = (
                f"PostgreSQL runs as user {self.user and self.user.pw_name}, who cannot reach {wanted}: "
                f"its files are in {self.data}"
            )
        self.sockets = self.data
        if len(os.fsencode(self.data / ".s.PGSQL.5432.lock")) > _SOCKET_PATH_MAX or "," in str(self.data):
            # A comma separates folders for PostgreSQL, and hosts for libpq.
            self.sockets = _ELSEWHERE / f"mini-pacs-socket-{_digest(wanted)}"

    @property
    def is_elsewhere(self) -> bool:
        """Tell whether the files are below /var/tmp: PostgreSQL's user cannot reach the wanted folder."""
        return self.notice is not None

    def make(self) -> None:
        """Make the folders, for the user of the server only.

        Raises:
            LabError: a folder belongs to somebody else.
        """
        if self.is_elsewhere:
            _share(self.data.parent)
            if not os.path.lexists(self._wanted):
                self._wanted.parent.mkdir(parents=True, exist_ok=True)
                self._wanted.symlink_to(self.data)  # a person who deletes the lab sees where its files are
        self.data.parent.mkdir(parents=True, exist_ok=True)
        for folder in {self.data, self.sockets}:
            self._private(folder)

    def give(self, path: Path) -> None:
        """Give a file to the user of the server."""
        if self.user is not None:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def remove(self) -> None:
        """Delete the folders, ignoring errors."""
        for folder in {self.data, self.sockets}:
            shutil.rmtree(folder, ignore_errors=True)
        if self.is_elsewhere:
            if self._wanted.is_symlink():
                self._wanted.unlink()
            with suppress(OSError):  # it was never made
                self.data.parent.rmdir()

    def _private(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        owner = folder.lstat().st_uid
        expected = {os.geteuid(), *({self.user.pw_uid} if self.user else set())}
        if folder.is_symlink() or owner not in expected:
            raise LabError(f"{folder} belongs to user id {owner}: PostgreSQL's files are not put there")
        self.give(folder)
        folder.chmod(0o700)


def _share(folder: Path) -> None:
    """Make `folder` so that PostgreSQL's user can enter it, whatever the umask; refuse another user's."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.lstat().st_uid != os.geteuid():
        raise LabError(f"{folder} belongs to somebody else: PostgreSQL's files are not put there")
    folder.chmod(0o711)


def _unprivileged_user(data: Path) -> pwd.struct_passwd | None:
    """Return the user of the server if we are root, because PostgreSQL refuses to run as root; else None.

    An existing cluster keeps its owner.
    """
    if os.geteuid() != 0:
        return None
    for folder in (data.absolute(), _substitute(data.absolute())):
        if (folder / "initialized").exists() and folder.stat().st_uid != 0:
            return pwd.getpwuid(folder.stat().st_uid)
    for name in _USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue  # not on this system
    raise LabError(f"PostgreSQL does not run as root, and there is no user {' or '.join(_USERS)}")


def _substitute(wanted: Path) -> Path:
    """Return a folder below /var/tmp, always the same for the same `wanted`."""
    return _ELSEWHERE / f"mini-pacs-{_digest(wanted)}" / wanted.name


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
