"""Write received instances durably to the spool.

Second stage in the life of an instance. `Spool.begin` opens a partial file (`partial`), which then gets its
envelope (`envelope`) and a final name (`places`), and is flushed. When `Partial.flush` returns, the file
survives a power cut: its bytes, its envelope, its name, and the folder of its study are on the disk. Then
Success is answered, and after that the row is committed.

If the process dies
    before the envelope   a `.part` file remains; it was never acknowledged, and recovery removes it
    after the envelope    it may have been acknowledged: recovery flushes it and registers it
    after registration    the `.part` link remains; recovery finds it registered, and removes the link

If the power fails
    before the flush      envelope or bytes may be torn. It was never acknowledged. Recovery verifies the
                          checksum of the envelope and the digest of the bytes
    after the flush       as after the death of the process. The `.part` link may be lost; the sweep finds the
                          file by its final name
"""

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from uuid import uuid4

from gateway.domain.instance import Place
from gateway.errors import SpoolFullError
from gateway.spool.flush import failure, flush_directory, make_folder
from gateway.spool.partial import LOCK, PARTIAL, SUFFIX, Partial, lock_folder
from gateway.spool.places import ORPHANED, Places

FOLDERS = (*Place, PARTIAL, ORPHANED)
"""The folders of a spool. `damaged/` is made when the first file goes there."""

FREE_SPACE_TRUST_SECONDS = 0.1
"""How long a measurement of the free space is used. The reserve must exceed what arrives in that time."""


class Spool(Places):
    """All folders under `edge.data_root`; one object per process.

    Only a process that receives calls `open_receiver` and `begin`.
    """

    def __init__(self, root: Path, *, reserve_bytes: int = 0) -> None:
        super().__init__(root)
        self.reserve_bytes = reserve_bytes
        self._numbers = itertools.count()
        self._free_bytes = 0
        self._measured_at = -FREE_SPACE_TRUST_SECONDS
        self._receiver: Path | None = None
        self._receiver_lock: int | None = None

    def prepare(self) -> None:
        """Create the folders durably."""
        try:
            for name in FOLDERS:
                make_folder(self.root / name)
            flush_directory(self.root)  # survives a power cut: the folders of the places
            flush_directory(self.root.parent)  # and the data root itself
        except OSError as error:
            raise failure("prepare", self.root, error) from error

    def missing_folders(self) -> list[str]:
        """Return the folders that are gone.

        Raises:
            SpoolError: the file system refuses to say.
        """
        missing = []
        for name in FOLDERS:
            try:
                os.stat(self.root / name)  # noqa: PTH116  `Path.exists` hides the reason
            except FileNotFoundError:
                missing.append(str(name))
            except OSError as error:
                raise failure("stat", self.root / name, error) from error
        return missing

    # ---- receiving -------------------------------------------------------------------------------

    def open_receiver(self) -> None:
        """Create and lock a folder for the partial files of this process; the lock ends with the process."""
        while self._receiver_lock is None:
            folder = self.root / PARTIAL / uuid4().hex
            try:
                make_folder(folder)
                self._receiver_lock = lock_folder(folder)
            except FileNotFoundError:
                continue  # reconcile removed the folder before it was locked
            except OSError as error:
                raise failure("lock", folder, error) from error
            self._receiver = folder

    def close_receiver(self) -> None:
        """Unlock this process's folder; remove it if it has no `.part` link. Recovery registers the rest."""
        if self._receiver is not None and self._receiver_lock is not None:
            os.close(self._receiver_lock)
            if not any(self._receiver.glob(f"*{SUFFIX}")):
                shutil.rmtree(self._receiver, ignore_errors=True)
            self._receiver = self._receiver_lock = None

    @property
    def receiver(self) -> Path:
        """The folder of this receiver process in partial/."""
        assert self._receiver is not None, "open_receiver comes first"
        return self._receiver

    def has_receiver(self) -> bool:
        """Tell whether the folder that `open_receiver` locked is still there, under its name."""
        try:
            there = (self.receiver / LOCK).stat()
        except OSError:
            return False
        return self._receiver_lock is not None and os.path.samestat(os.fstat(self._receiver_lock), there)

    def receiver_was_deleted(self) -> bool:
        """Tell whether somebody deleted the lock file of this process; else another disk may hide it."""
        return self._receiver_lock is not None and os.fstat(self._receiver_lock).st_nlink == 0

    def begin(self, unregistered_bytes: int = 0) -> Partial:
        """Open a new partial file. `unregistered_bytes` are added to the reserve.

        Raises:
            SpoolFullError: free space is at or below the reserve.
        """
        self.check_reserve(unregistered_bytes)
        return Partial(f"{self.receiver}/{next(self._numbers):08x}{SUFFIX}", self.name)

    # ---- space -----------------------------------------------------------------------------------

    def check_reserve(self, unregistered_bytes: int = 0) -> None:
        """Raise SpoolFullError if free space is at or below the reserve, so that the disk never is full.

        PostgreSQL may use the same disk: `unregistered_bytes`, what it needs for receptions that are not
        registered yet, are added to the reserve.
        """
        if not self.reserve_bytes:
            return
        now = monotonic()
        if now - self._measured_at > FREE_SPACE_TRUST_SECONDS:
            self._free_bytes = self.free_bytes()
            self._measured_at = now
        if self._free_bytes <= self.reserve_bytes + unregistered_bytes:
            reserve = self.reserve_bytes >> 20
            waiting = f" and {-(-unregistered_bytes >> 20)} MiB for what PostgreSQL has not registered"
            raise SpoolFullError(
                f"less than edge.disk_reserve_mb ({reserve}){waiting if unregistered_bytes else ''} "
                f"is free on {self.root}"
            )

    def free_bytes(self) -> int:
        """Return the free bytes of the spool's file system for an unprivileged user."""
        try:
            status = os.statvfs(self.root)
        except OSError as error:
            raise failure("statvfs", self.root, error) from error
        return status.f_bavail * status.f_frsize

    def free_inodes(self) -> int | None:
        """Return how many more files the file system can hold; None where it sets no limit."""
        try:
            status = os.statvfs(self.root)
        except OSError as error:
            raise failure("statvfs", self.root, error) from error
        return status.f_favail if status.f_files else None

    def count(self, name: str, limit: int) -> int:
        """Count the instance files in a folder of the spool, at most up to `limit`."""
        return sum(1 for _ in itertools.islice(_instance_files(self.root / name), limit))


def _instance_files(folder: Path) -> Iterator[str]:
    """Yield the names of the files of instances, as the disk lists them; skip unreadable folders."""
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(folder) as studies:
        for study in studies:
            with suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(study) as files:
                yield from (file.name for file in files if file.name.endswith(".dcm"))
