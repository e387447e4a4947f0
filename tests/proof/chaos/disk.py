"""The spool's disk: a separate small file system, so that it can really be full.

As root, it is an ext4 in memory, mounted in a mount namespace of this run. The namespace ends with the run,
so no mount is left after a crash. Without root, the spool is an ordinary folder that only the product's own
fault can fill. To fill the disk, a ballast file takes every free block.
"""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

MARK = "CHAOS_NAMESPACE"
_IMAGE_BYTES = 4 << 30
_SHARE_OF_MEMORY = 0.4
_SLACK_BYTES = 16 << 20


def enter_namespace() -> None:
    """Start this program again in its own mount namespace, if that is allowed."""
    if os.environ.get(MARK) or os.geteuid() != 0 or not _can_mount():
        return
    os.environ[MARK] = "yes"
    words = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        sys.executable,
        "-m",
        "proof.chaos",
        *sys.argv[1:],
    ]
    os.execvp(words[0], words)  # noqa: S606  this program again


def _can_mount() -> bool:
    if shutil.which("unshare") is None or shutil.which("mkfs.ext4") is None:
        return False
    return _works("unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "none", "/mnt")


def _works(*words: str) -> bool:
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


def _available_bytes() -> int:
    """Return the memory in bytes that can be used without swapping."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))


def is_to_be_real() -> bool:
    """Tell whether this machine allows a separate file system; if it does, a run must use one."""
    return os.geteuid() == 0 and Path("/dev/loop-control").exists() and _can_mount()


class Disk:
    """The file system under `root`, an empty folder; `is_real` tells whether it can be filled."""

    def __init__(self, root: Path, memory: Path) -> None:
        self.root = root
        self._ballast = root / "ballast"
        self._memory = memory
        self.is_real = False
        root.mkdir(parents=True, exist_ok=True)
        if os.environ.get(MARK):
            self._mount()

    def _mount(self) -> None:
        """Mount an ext4 in memory: the speed of a disk is of no interest here."""
        self._memory.mkdir()
        size = min(_IMAGE_BYTES, int(_available_bytes() * _SHARE_OF_MEMORY))
        image = self._memory / "spool.img"
        make = ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1"]
        if not _works("mount", "-t", "tmpfs", "-o", f"size={size + _SLACK_BYTES}", "none", str(self._memory)):
            return
        with image.open("wb") as file:
            file.truncate(size)
        # a container may have no loop device
        self.is_real = _works(*make, str(image)) and _works(
            "mount", "-o", "loop,discard", str(image), str(self.root)
        )

    def close(self) -> None:
        """Unmount it and free the memory."""
        for mounted in (self.root, self._memory):
            if mounted.is_mount():
                _works("umount", str(mounted))

    def fill(self) -> None:
        """Fill every free block."""
        descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            free = os.fstatvfs(descriptor)
            with suppress(OSError):  # others write meanwhile, so less may be free than was measured
                os.posix_fallocate(descriptor, 0, free.f_bavail * free.f_frsize)
            size = os.fstat(descriptor).st_size
            for step in (1 << 20, 4096):
                with suppress(OSError):
                    while True:
                        os.posix_fallocate(descriptor, size, step)
                        size += step
        finally:
            os.close(descriptor)

    def relieve(self) -> None:
        """Delete the ballast."""
        self._ballast.unlink(missing_ok=True)
