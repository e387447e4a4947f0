"""What the machine must have, and its mounts: a namespace of this run's own, FUSE, and loop devices.

The mount namespace ends with the last process of the run, so no mount is left after a crash of the program.
"""

import json
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from support.waiting import wait_until

from proof.power_cuts.recording import NAME
from proof.power_cuts.server import Position

MARK = "POWER_CUTS_NAMESPACE"
ANSWER_SECONDS = 60.0
"""Must exceed a mount, an unmount and a cut on a busy machine."""
_TESTS = Path(__file__).resolve().parents[2]

MAKE = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1"),
    "xfs": ("mkfs.xfs", "-q", "-f", "-K"),
}
PACKAGES = {"ext4": "e2fsprogs", "xfs": "xfsprogs"}


def missing(kind: str) -> str | None:
    """Return why this machine cannot do that kind of run; None if it can."""
    if os.geteuid() != 0:
        return "only root can mount"
    if not Path("/dev/fuse").exists():
        return "there is no /dev/fuse"
    if shutil.which("unshare") is None or not _works(
        *("unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "none", "/mnt")
    ):
        return "this root may not mount"
    if kind in MAKE:
        if not Path("/dev/loop-control").exists():
            return "there is no loop device"
        if shutil.which(MAKE[kind][0], path=_path()) is None:
            return f"{MAKE[kind][0]} is missing: install {PACKAGES[kind]}"
    return None


def enter_namespace() -> None:
    """Start this program again in its own mount namespace."""
    if os.environ.get(MARK):
        return
    os.environ[MARK] = "yes"
    os.environ["PATH"] = _path()
    words = ["unshare", "--mount", "--propagation", "private"]
    words += [sys.executable, "-m", "proof.power_cuts", *sys.argv[1:]]
    os.execvp(words[0], words)  # noqa: S606  this program again


def _path() -> str:
    return f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin{os.pathsep}/sbin"


def _works(*words: str) -> bool:
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


def _run(*words: str | Path) -> None:
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, words))}: {done.stderr.strip()}"


def make_image(kind: str, image: Path, size: int) -> None:
    """Make an empty file system of that kind in a new file."""
    with image.open("wb") as file:
        file.truncate(size)
    _run(*MAKE[kind], image)


class LoopMount:
    """The file system of an image, mounted at `point`; the loop device goes with the mount."""

    def __init__(self, kind: str, image: Path, point: Path) -> None:
        self._point = point
        point.mkdir(exist_ok=True)
        _run("mount", "-t", kind, "-o", "loop", image, point)
        point.chmod(0o711)  # PostgreSQL's user must be able to enter it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # a killed process may hold its files for a moment
        wait_until(
            lambda: _works("umount", str(self._point)), ANSWER_SECONDS, f"{self._point} to be unmounted"
        )


class FuseProcess:
    """The process of a file system of `server`, mounted at `point`."""

    def __init__(self, folder: Path, point: Path, *, image: Path | None = None, lies: bool = False) -> None:
        point.mkdir(parents=True, exist_ok=True)
        self.image = point / NAME
        path = folder / "position"
        path.unlink(missing_ok=True)
        self.position = Position(path)
        words = [sys.executable, "-m", "proof.power_cuts.server", str(point), str(path)]
        words += ["--image", str(image)] if image else []
        self._process = subprocess.Popen(
            [*words, *(["--lies"] if lies else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(_TESTS)},
            start_new_session=True,
        )
        self._text = b""
        self.stopped: dict[str, Any] | None = None
        """What it said when it stopped; None while it answers."""
        self._answer()

    def order(self, word: str, **more: object) -> dict[str, Any]:
        """Give an order; return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": word, **more}).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._answer()
        if word != "stop":
            self.stopped = None
        return answer

    def has_stopped(self) -> bool:
        """Tell whether it has reached the step at which it was told to stop."""
        while self.stopped is None and (line := self._line(0.0)):
            self.stopped = json.loads(line)
        return self.stopped is not None

    def _answer(self) -> dict[str, Any]:
        while True:
            line = self._line(ANSWER_SECONDS)
            assert line is not None, "the file system does not answer"
            answer: dict[str, Any] = json.loads(line)
            if "stopped" not in answer:
                return answer
            self.stopped = answer

    def _line(self, seconds: float) -> bytes | None:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._text:
            if not select.select([descriptor], [], [], seconds)[0]:
                return None
            read = os.read(descriptor, 65536)
            assert read, f"the file system ended with {self._process.wait()}"
            self._text += read
        line, self._text = self._text.split(b"\n", 1)
        return line

    def close(self) -> None:
        """Unmount it and end the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # an order, since forked children keep the other end of the pipe open
        self._process.stdin.write(b'{"do": "end"}\n')
        self._process.stdin.close()
        try:
            self._process.wait(ANSWER_SECONDS)
        finally:
            self._process.kill()
            self._process.stdout.close()
