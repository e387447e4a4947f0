"""`python -m proof.power_cuts.server POINT POSITION`: the file system as a process, led by its input.

Each line of its input is an order, each line of its output an answer, both JSON:

    {"do": "fresh"}                          mount an empty file system (`forgetful` only)
    {"do": "stop", "after": 120}             do 120 more steps, then answer nothing, and say so
    {"do": "go"}                             go on after such a stop, or do not stop
    {"do": "cut", "seed": 7, "names": "any"} unmount, forget what a power cut takes, mount again
    {"do": "end"}                            unmount, and end; as at the end of the input

A step is a request that changes or flushes something. The number of the last one stands in the file POSITION,
which senders and peers read when they have an answer. After a stop, requests are not even read: whoever asks
waits, and can be killed. The process ends with its parent.
"""

import argparse
import ctypes
import json
import mmap
import os
import selectors
import signal
import struct
import sys
from pathlib import Path
from random import Random
from typing import Any

from proof.power_cuts.file_system import Change, FileSystem, Owner
from proof.power_cuts.forgetful import ForgetfulFiles
from proof.power_cuts.forgetful_nodes import Names
from proof.power_cuts.fuse import Mount
from proof.power_cuts.recording import RecordingFiles

POSITION = struct.Struct("=Q")
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Let the kernel kill this process when the one that started it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Position:
    """The number of the last step, in a file that several processes map."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(descriptor, mmap.PAGESIZE)
        self._map = mmap.mmap(descriptor, mmap.PAGESIZE)
        os.close(descriptor)

    def get(self) -> int:
        """Return the number."""
        value: int = POSITION.unpack_from(self._map)[0]
        return value

    def set(self, number: int) -> None:
        """Set the number."""
        POSITION.pack_into(self._map, 0, number)


class _Counted(FileSystem):
    """Counts the steps of the file system behind it."""

    def __init__(self, files: FileSystem, position: Position) -> None:
        self.files = files
        self._position = position
        self.count = 0
        self.last = ""
        for name in ("lookup", "attributes", "read", "names"):
            setattr(self, name, getattr(files, name))
        position.set(0)

    def _step(self, word: str) -> None:
        self.count += 1
        self.last = word
        self._position.set(self.count)

    def change(self, number: int, change: Change) -> None:
        self.files.change(number, change)
        self._step("change")

    def create(self, folder: int, name: str, mode: int, owner: Owner, *, exclusive: bool) -> int:
        made = self.files.create(folder, name, mode, owner, exclusive=exclusive)
        self._step("create")
        return made

    def make_folder(self, folder: int, name: str, mode: int, owner: Owner) -> int:
        made = self.files.make_folder(folder, name, mode, owner)
        self._step("mkdir")
        return made

    def unlink(self, folder: int, name: str, *, is_folder: bool) -> None:
        self.files.unlink(folder, name, is_folder=is_folder)
        self._step("rmdir" if is_folder else "unlink")

    def rename(self, folder: int, name: str, new_folder: int, new_name: str) -> None:
        self.files.rename(folder, name, new_folder, new_name)
        self._step("rename")

    def link(self, number: int, folder: int, name: str) -> int:
        self.files.link(number, folder, name)
        self._step("link")
        return number

    def write(self, number: int, offset: int, data: memoryview) -> None:
        self.files.write(number, offset, data)
        self._step("write")

    def flush(self, number: int, *, is_folder: bool) -> None:
        self.files.flush(number, is_folder=is_folder)
        self._step("flush of a folder" if is_folder else "flush")


class Server:
    """One mount point, and the file system that is there now."""

    def __init__(self, files: FileSystem, point: Path, position: Position, *, lies: bool) -> None:
        self._point = point
        self._position = position
        self._lies = lies
        self._files = _Counted(files, position)
        self._mount: Mount | None = None
        self._stop_at: int | None = None
        self._input = b""

    def run(self) -> None:
        """Serve until the end of the input."""
        self._remount(self._files)
        _say({"mounted": str(self._point)})
        while True:
            stopped = self._stop_at is not None and self._files.count >= self._stop_at
            with selectors.DefaultSelector() as selector:
                selector.register(0, selectors.EVENT_READ)
                if self._mount is not None and not stopped:
                    selector.register(self._mount.descriptor, selectors.EVENT_READ)
                ready = [key.fd for key, _ in selector.select()]
            if 0 in ready:
                if not self._read_orders():
                    break
            elif self._mount is not None and not self._answer_several():
                self._mount = None
        self._unmount()

    def _answer_several(self) -> bool:
        assert self._mount is not None
        more = self._mount.answer_one()
        if self._stop_at is not None and self._files.count >= self._stop_at:
            _say({"stopped": self._files.count, "step": self._files.last})
        return more

    def _read_orders(self) -> bool:
        """Follow the orders that came; return False at the end."""
        read = os.read(0, 65536)
        *lines, self._input = (self._input + read).split(b"\n")
        return bool(read) and all(self._follow(json.loads(line)) for line in lines)

    def _follow(self, order: dict[str, Any]) -> bool:
        match order["do"]:
            case "fresh":
                self._stop_at = None
                self._remount(_Counted(ForgetfulFiles(lies=self._lies), self._position))
                _say({})
            case "stop":
                self._stop_at = self._files.count + order["after"]
                _say({})
            case "go":
                self._stop_at = None
                _say({})
            case "cut":
                self._stop_at = None
                self._unmount()
                assert isinstance(self._files.files, ForgetfulFiles)
                loss = self._files.files.cut(Random(order["seed"]), Names(order["names"]))  # noqa: S311  repeatable
                self._remount(self._files)
                _say({"names": loss.names, "files": loss.files})
            case "end":
                return False
        return True

    def _remount(self, files: _Counted) -> None:
        self._unmount()
        self._files = files
        self._mount = Mount(files, self._point)

    def _unmount(self) -> None:
        if self._mount is not None:
            self._mount.unmount()
            self._mount = None


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Serve one mount point."""
    parser = argparse.ArgumentParser(
        prog="power_cuts.server", description="a file system that loses its power"
    )
    parser.add_argument("point", type=Path)
    parser.add_argument("position", type=Path)
    parser.add_argument("--image", type=Path, help="record the writes to this image; without it: forget")
    parser.add_argument("--lies", action="store_true", help="a flush does nothing")
    arguments = parser.parse_args()
    end_with_parent()
    files = RecordingFiles(arguments.image) if arguments.image else ForgetfulFiles(lies=arguments.lies)
    Server(files, arguments.point, Position(arguments.position), lies=arguments.lies).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
