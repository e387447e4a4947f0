"""Durable files for instances that are not yet everywhere they are owed.

When `Partial.flush` returns, the bytes survive a power cut under the name that `Partial.name` gave: the
file was flushed, and its directory after; a directory that was made on the way was flushed into its
parent. The name comes first, so that one commit of the file system's journal carries file and name, and
so that the row can be written while the disk works.

The name is a second link: the `.part` name stays until `Partial.discard`, which the receiver calls once
the transaction has committed. So a kept file without a row can be told from one whose receiver is still
at work (G6): the receiver's folder under partial/ is locked while it lives.

If the process dies
    before the link    a `.part` file remains; reconcile removes it with its receiver's folder
    after the link     a file without a row remains; the peer got no Success and still owns the
                       instance; reconcile moves it to orphaned/
    after the commit   the `.part` name of a kept file remains; reconcile removes it

If the power goes
    before the flush   a torn file may stand under its final name, without a row, since no row is committed
                       before the flush. It is never believed: a name that is there is taken, whatever it
                       holds, and only a row makes a file an instance; reconcile moves it to orphaned/
    after the flush    as above
"""

import errno
import fcntl
import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from threading import Lock
from time import monotonic
from uuid import uuid4

from gateway.domain.instance import Place
from gateway.errors import FileMissingError, SpoolError, SpoolFullError

PARTIAL = "partial"
ORPHANED = "orphaned"
DAMAGED = "damaged"
"""Files with the name of an instance that is owed, and other bytes than were received. Nothing empties it."""
LOCK = "lock"
SUFFIX = ".part"

DIRECTORY_TRUST_SECONDS = 600.0
"""How long a directory that was flushed into its parent is not flushed again. Must stay below the age
at which the sweep removes empty directories (an hour): one that was removed and made anew by another
process would be trusted wrongly."""

FREE_SPACE_TRUST_SECONDS = 0.1
"""How long a look at the free space counts; the reserve must exceed what comes in that time."""

FOLDER_MODE = 0o750
FILE_MODE = 0o640
"""The group is the operator's to give to whoever may look."""

_FULL = {errno.ENOSPC, errno.EDQUOT}


def failure(operation: str, path: Path, error: OSError) -> SpoolError:
    """The error for a refused file operation: operation, path and reason."""
    sentence = f"{operation} {path}: {error.strerror or error}"
    return SpoolFullError(sentence) if error.errno in _FULL else SpoolError(sentence)


def make_folder(path: Path) -> None:
    """The folder is there; it and each that was made on the way are closed to other users (G8).

    Whatever the umask: one that was set wide would open every data set to whoever is on the machine.
    """
    try:
        path.mkdir(mode=FOLDER_MODE)
    except FileNotFoundError:
        make_folder(path.parent)
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except FileExistsError:
        if not path.is_dir():
            raise


def flush_directory(path: Path) -> None:
    """Return when the entries of a directory are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_folder(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock until it is closed; None where somebody else holds it.

    Raises:
        FileNotFoundError: the folder is gone, or its lock was removed before it was held.
    """
    path = folder / LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def remove_uncommitted(path: Path) -> None:
    """The name is gone. Never raises: where the disk refuses, nothing believes it, and reconcile sees to it.

    For cleaning up behind an error, which is the one to be told of.
    """
    with suppress(OSError):
        path.unlink()


class Partial:
    """A file that is being written. `discard` ends it; a file that was named stays under that name."""

    def __init__(self, spool: "Spool", path: Path) -> None:
        self._spool = spool
        self._folder: Path | None = None
        self.path = path
        try:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise failure("create", path, error) from error

    def write(self, data: bytes | memoryview) -> None:
        """Append `data` whole.

        Raises:
            SpoolFullError: the disk is full.
            SpoolError: any other refusal.
        """
        view = memoryview(data)
        while view:
            try:
                written = os.write(self.descriptor, view)
            except OSError as error:
                raise failure("write", self.path, error) from error
            view = view[written:]

    def name(self, study_instance_uid: str, names: Sequence[str]) -> Path:
        """The file stands under the first of `names` that is free in incoming/<study>, not yet durably."""
        target = self._spool.link(self.path, study_instance_uid, names)
        self._folder = target.parent
        return target

    def flush(self) -> None:
        """The file is durable under the name that it was given last.

        Raises:
            SpoolError: it is not, and may be torn: it must go.
        """
        assert self._folder is not None, "name comes first"
        try:
            os.fsync(self.descriptor)  # survives a power cut: the bytes, before any row names them
            flush_directory(self._folder)  # survives a power cut: the name
        except OSError as error:
            raise failure("fsync", self.path, error) from error

    def keep(self, study_instance_uid: str, names: Sequence[str]) -> Path:
        """Make the file durable under the first of `names` that is free in incoming/<study>; its path."""
        target = self.name(study_instance_uid, names)
        try:
            self.flush()
        except SpoolError:
            remove_uncommitted(target)
            raise
        return target

    def discard(self) -> None:
        """Remove the `.part` name. Never raises: what is left is swept with the receiver's folder."""
        if self.descriptor < 0:
            return
        with suppress(OSError):
            os.close(self.descriptor)
        self.descriptor = -1  # its number is another file's soon
        with suppress(OSError):
            self.path.unlink()


class Spool:
    """The folders under `edge.data_root`; one object per process."""

    def __init__(self, root: Path, *, reserve_bytes: int = 0) -> None:
        self.root = root
        self._reserve_bytes = reserve_bytes
        self._trusted: dict[str, float] = {}
        self._lock = Lock()
        self._numbers = itertools.count()
        self._free_bytes = 0
        self._looked_at = -FREE_SPACE_TRUST_SECONDS
        self._receiver: Path | None = None
        self._receiver_lock: int | None = None

    # ---- receiving -------------------------------------------------------------------------------

    def prepare(self) -> None:
        """The folders exist and are durable."""
        try:
            for name in (*Place, PARTIAL, ORPHANED):
                make_folder(self.root / name)
            flush_directory(self.root)
            flush_directory(self.root.parent)
        except OSError as error:
            raise failure("prepare", self.root, error) from error

    def open_receiver(self) -> None:
        """From here on this process is a living receiver: its folder is locked until it dies."""
        while self._receiver_lock is None:
            folder = self.root / PARTIAL / uuid4().hex
            try:
                make_folder(folder)
                self._receiver_lock = lock_folder(folder)
            except FileNotFoundError:
                continue  # reconcile saw it before it was locked, and removed it
            except OSError as error:
                raise failure("lock", folder, error) from error
            self._receiver = folder

    def close_receiver(self) -> None:
        """The folder of this receiver is gone, where it is empty; else reconcile sees to it."""
        if self._receiver is not None and self._receiver_lock is not None:
            os.close(self._receiver_lock)
            if not any(self._receiver.glob(f"*{SUFFIX}")):
                shutil.rmtree(self._receiver, ignore_errors=True)
            self._receiver = self._receiver_lock = None

    def begin(self) -> Partial:
        """A new file of this receiver.

        Raises:
            SpoolFullError: free space is at its reserve.
        """
        assert self._receiver is not None, "open_receiver comes first"
        self.check_reserve()
        return Partial(self, self._receiver / f"{next(self._numbers):08x}{SUFFIX}")

    def free_bytes(self) -> int:
        """What is left on the spool's file system for an unprivileged user."""
        try:
            status = os.statvfs(self.root)
        except OSError as error:
            raise failure("statvfs", self.root, error) from error
        return status.f_bavail * status.f_frsize

    def count(self, name: str, limit: int) -> int:
        """How many files a folder of the spool holds in its studies; at least, where that is `limit`."""
        return sum(1 for _ in islice((self.root / name).glob("*/*.dcm"), limit))

    def check_reserve(self) -> None:
        """Return if there is more free than the reserve; SpoolFullError before the disk is full."""
        if not self._reserve_bytes:
            return
        now = monotonic()
        if now - self._looked_at > FREE_SPACE_TRUST_SECONDS:
            self._free_bytes = self.free_bytes()
            self._looked_at = now
        if self._free_bytes <= self._reserve_bytes:
            reserve = self._reserve_bytes >> 20
            raise SpoolFullError(f"less than edge.disk_reserve_mb ({reserve}) is free on {self.root}")

    def link(self, part: Path, study_instance_uid: str, names: Sequence[str]) -> Path:
        """Give `part` the first free of `names` in incoming/<study>; never replaces a file."""
        folder = self.root / Place.INCOMING / study_instance_uid
        for name in (*names, None):
            target = folder / (name or _unique(names[-1]))
            try:
                self._link(part, target)
            except FileExistsError:
                continue
            except OSError as error:
                raise failure("link", target, error) from error
            return target
        raise SpoolError(f"no free name for {part} in {folder}")

    def _link(self, part: Path, target: Path) -> None:
        while True:
            self._ensure_directory(target.parent)
            try:
                os.link(part, target)
            except FileNotFoundError:
                # the sweep removed the empty directory just now: make it again
                self._trusted.pop(str(target.parent), None)
                if not part.exists():
                    raise
                continue
            return

    def _ensure_directory(self, folder: Path) -> None:
        """`folder` exists and its name is durable, whoever made it: that one may not have flushed yet."""
        key = str(folder)
        now = monotonic()
        if self._trusted.get(key, 0.0) > now:
            return
        make_folder(folder)
        flush_directory(folder.parent)
        with self._lock:
            if len(self._trusted) > 10_000:  # noqa: PLR2004  bounds memory; what is forgotten is flushed again
                self._trusted.clear()
            self._trusted[key] = now + DIRECTORY_TRUST_SECONDS

    # ---- afterwards ------------------------------------------------------------------------------

    def path(self, place: Place, study_instance_uid: str, file_name: str) -> Path:
        """Where the row says that the file is."""
        return self.root / place / study_instance_uid / file_name

    def everywhere(self, study_instance_uid: str, file_name: str) -> Iterator[Path]:
        """Each place that may hold the file, whatever the row says."""
        for place in (*Place, ORPHANED):
            yield self.root / place / study_instance_uid / file_name

    def find(self, place: Place, study_instance_uid: str, file_name: str) -> Path:
        """The file: where the row says, else in another place (a move and its row are not one step).

        Raises:
            FileMissingError: it is nowhere.
        """
        for path in self.find_all(place, study_instance_uid, file_name):
            return path
        raise FileMissingError(f"no place under {self.root} holds {study_instance_uid}/{file_name}")

    def find_all(self, place: Place, study_instance_uid: str, file_name: str) -> Iterator[Path]:
        """Every file of that name, the one where the row says first; more than one is rare."""
        expected = self.path(place, study_instance_uid, file_name)
        elsewhere = (path for path in self.everywhere(study_instance_uid, file_name) if path != expected)
        return (path for path in (expected, *elsewhere) if path.exists())

    def move(
        self, place: Place, study_instance_uid: str, file_name: str, *, was: Place | None = None
    ) -> bool:
        """Bring the file to `place` from where it `was`; False where it is nowhere.

        Where it is not there any more, every other place is tried; but a file that has a second link there
        is another version, being received under that name just now, and stays.

        Not flushed: after a power cut the file stands in the old place or the new, and readers look in
        both.
        """
        target = self.path(place, study_instance_uid, file_name)
        if target.exists():
            return True
        expected = None if was is None else self.path(was, study_instance_uid, file_name)
        elsewhere = (path for path in self.everywhere(study_instance_uid, file_name) if path != expected)
        for source in (*([] if expected is None else [expected]), *elsewhere):
            try:
                if source != expected and source.stat().st_nlink > 1:
                    continue
                self.put(source, target)  # or somebody else has
            except (FileMissingError, FileNotFoundError):
                continue
            except OSError as error:
                raise failure("move", source, error) from error
            return True
        return False

    def put(self, source: Path, target: Path) -> bool:
        """`source` stands at `target` and there only; False where a file stands there, which stays.

        Raises:
            FileMissingError: there is no `source`.
        """
        try:
            self._link(source, target)  # unlike rename, never replaces what came there meanwhile
            source.unlink(missing_ok=True)
        except FileExistsError:
            return False
        except FileNotFoundError as error:
            raise FileMissingError(f"{source} is not there") from error
        except OSError as error:
            raise failure("move", source, error) from error
        return True

    def remove(self, place: Place, study_instance_uid: str, file_name: str) -> None:
        """The file is not at `place` any more: purge.

        Other places are left alone: the name may already mean a newer file there.
        """
        path = self.path(place, study_instance_uid, file_name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise failure("remove", path, error) from error


def _unique(name: str) -> str:
    return f"{name.removesuffix('.dcm')}.{uuid4().hex[:8]}.dcm"
