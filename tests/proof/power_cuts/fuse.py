"""The kernel's FUSE protocol on /dev/fuse, as in linux/fuse.h: what a file system in this process needs.

No library is used. The low level knows files by number, not by path, so a file with two names stays one
file, and a flush of one name is a flush of the file. Root may mount without the helper program of libfuse.
"""

import ctypes
import errno
import os
import stat
import struct
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

from proof.power_cuts.file_system import Change, FileSystem, Owner

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_WRITE = 1 << 20
_PAGES = MAX_WRITE // 4096
_VERSION = (7, 31)
_BIG_WRITES, _MAX_PAGES = 1 << 5, 1 << 22
_DIRECT_IO, _NO_FLUSH = 1, 1 << 5
_OPENED = _DIRECT_IO | _NO_FLUSH
"""Of an open file: every read and write reaches us, and close(2) does not. A process that waits for an answer
to its close cannot be killed."""
_NOSUID, _NODEV = 2, 4
_DETACH = 2

_IN = struct.Struct("=IIQQIIIHH")
_OUT = struct.Struct("=IiQ")
_ENTRY = struct.Struct("=4Q2I")
_OPEN = struct.Struct("=QII")
_SET = struct.Struct("=IIQQQQQQIIIIIIII")
_IO = struct.Struct("=QQIIQII")
_STATFS = struct.Struct("=5Q4I24x")
_DIRENT = struct.Struct("=QQII")
_FREE = (1 << 24, 1 << 23, 1 << 23, 1 << 24, 1 << 23)
"""Blocks, of them free, free for everybody; files, of them free."""


class Opcode(IntEnum):
    """The requests that are answered; all others are answered with ENOSYS."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    CREATE = 35
    INTERRUPT = 36
    BATCH_FORGET = 42


_UNANSWERED = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT})


class Mount:
    """A mounted file system; `descriptor` is readable when the kernel asks something."""

    def __init__(self, files: FileSystem, point: Path) -> None:
        self._files = files
        self._point = os.fsencode(point)
        self._buffer = bytearray(MAX_WRITE + 4096 * 2)
        self._libc = ctypes.CDLL(None, use_errno=True)
        # a request may be gone before it is read, with the process that was killed: then a read must not wait
        self.descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        options = (
            f"fd={self.descriptor},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
        ).encode()
        if self._libc.mount(b"power_cuts", self._point, b"fuse", _NOSUID | _NODEV, options):
            code = ctypes.get_errno()
            os.close(self.descriptor)
            raise OSError(code, f"mount a FUSE file system: {os.strerror(code)}")
        self._answers: dict[int, Callable[[int, memoryview, Owner], bytes]] = {
            Opcode.LOOKUP: self._lookup,
            Opcode.GETATTR: self._getattr,
            Opcode.SETATTR: self._setattr,
            Opcode.MKDIR: self._mkdir,
            Opcode.UNLINK: lambda number, body, _: self._unlink(number, body, is_folder=False),
            Opcode.RMDIR: lambda number, body, _: self._unlink(number, body, is_folder=True),
            Opcode.RENAME: self._rename,
            Opcode.LINK: self._link,
            Opcode.OPEN: lambda *_: _OPEN.pack(0, _OPENED, 0),
            Opcode.OPENDIR: lambda *_: _OPEN.pack(0, 0, 0),
            Opcode.RELEASE: lambda *_: b"",
            Opcode.RELEASEDIR: lambda *_: b"",
            Opcode.READ: self._read,
            Opcode.WRITE: self._write,
            Opcode.STATFS: lambda *_: _STATFS.pack(*_FREE, 4096, 255, 4096, 0),
            Opcode.FSYNC: lambda number, *_: self._flush(number, is_folder=False),
            Opcode.FSYNCDIR: lambda number, *_: self._flush(number, is_folder=True),
            Opcode.INIT: self._init,
            Opcode.READDIR: self._readdir,
            Opcode.CREATE: self._create,
        }  # fmt: skip

    def unmount(self) -> None:
        """Abort every request that waits, and take the file system away; open files get errors."""
        os.close(self.descriptor)
        self._libc.umount2(self._point, _DETACH)

    def answer_one(self) -> bool:
        """Read one request and answer it; return False if the file system was unmounted."""
        try:
            size = os.readv(self.descriptor, [self._buffer])
        except OSError as error:
            if error.errno in {errno.EINTR, errno.ENOENT, errno.EAGAIN}:
                return True  # the asking process gave up
            if error.errno == errno.ENODEV:
                return False
            raise
        view = memoryview(self._buffer)[:size]
        _, opcode, unique, number, user, group, *_ = _IN.unpack_from(view)
        if opcode in _UNANSWERED:
            return True
        answer = self._answers.get(opcode)
        code, body = errno.ENOSYS, b""
        if answer is not None:
            try:
                code, body = 0, answer(number, view[_IN.size :], (user, group))
            except OSError as error:
                code = error.errno or errno.EIO
        try:
            os.writev(self.descriptor, [_OUT.pack(_OUT.size + len(body), -code, unique), body])
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENODEV}:  # the asking process is gone
                raise
        return True

    # ---- answers -------------------------------------------------------------------------------------

    def _init(self, _number: int, body: memoryview, _owner: Owner) -> bytes:
        _, _, ahead, flags = struct.unpack_from("=4I", body)
        return struct.pack(
            "=4I2H2I2H32x",
            *(*_VERSION, ahead, flags & (_BIG_WRITES | _MAX_PAGES)),
            *(16, 12, MAX_WRITE, 1, _PAGES, 0),
        )

    def _entry(self, number: int) -> bytes:
        """Return the answer that names a file; it is not cached, since another mount shows other files."""
        return _ENTRY.pack(number, 0, 0, 0, 0, 0) + self._files.attributes(number).pack()

    def _lookup(self, number: int, body: memoryview, _owner: Owner) -> bytes:
        return self._entry(self._files.lookup(number, _name(body)))

    def _getattr(self, number: int, _body: memoryview, _owner: Owner) -> bytes:
        return struct.pack("=QII", 0, 0, 0) + self._files.attributes(number).pack()

    def _setattr(self, number: int, body: memoryview, owner: Owner) -> bytes:
        valid, _, _, size, *_, mode, _, user, group, _ = _SET.unpack_from(body)
        asked = Change(
            stat.S_IMODE(mode) if valid & 1 else None,
            user if valid & 2 else None,
            group if valid & 4 else None,
            size if valid & 8 else None,
        )
        if asked != Change(None, None, None, None):
            self._files.change(number, asked)
        return self._getattr(number, body, owner)

    def _create(self, number: int, body: memoryview, owner: Owner) -> bytes:
        flags, mode, _, _ = struct.unpack_from("=4I", body)
        made = self._files.create(number, _name(body[16:]), mode, owner, exclusive=bool(flags & os.O_EXCL))
        return self._entry(made) + _OPEN.pack(0, _OPENED, 0)

    def _mkdir(self, number: int, body: memoryview, owner: Owner) -> bytes:
        mode, _ = struct.unpack_from("=2I", body)
        return self._entry(self._files.make_folder(number, _name(body[8:]), mode, owner))

    def _unlink(self, number: int, body: memoryview, *, is_folder: bool) -> bytes:
        self._files.unlink(number, _name(body), is_folder=is_folder)
        return b""

    def _rename(self, number: int, body: memoryview, _owner: Owner) -> bytes:
        (target,) = struct.unpack_from("=Q", body)
        old, new, *_ = bytes(body[8:]).split(b"\0")
        self._files.rename(number, os.fsdecode(old), target, os.fsdecode(new))
        return b""

    def _link(self, number: int, body: memoryview, _owner: Owner) -> bytes:
        (linked,) = struct.unpack_from("=Q", body)
        return self._entry(self._files.link(linked, number, _name(body[8:])))

    def _read(self, number: int, body: memoryview, _owner: Owner) -> bytes:
        _, offset, size, *_ = _IO.unpack_from(body)
        return self._files.read(number, offset, size)

    def _write(self, number: int, body: memoryview, _owner: Owner) -> bytes:
        _, offset, size, *_ = _IO.unpack_from(body)
        self._files.write(number, offset, body[_IO.size : _IO.size + size])
        return struct.pack("=II", size, 0)

    def _flush(self, number: int, *, is_folder: bool) -> bytes:
        self._files.flush(number, is_folder=is_folder)
        return b""

    def _readdir(self, number: int, body: memoryview, _owner: Owner) -> bytes:
        _, offset, size, *_ = _IO.unpack_from(body)
        parts, used = [], 0
        for position, name, child, mode in self._files.names(number):
            if position <= offset:
                continue
            raw = os.fsencode(name)
            entry = _DIRENT.pack(child, position, len(raw), stat.S_IFMT(mode) >> 12) + raw
            entry += bytes(-len(entry) % 8)
            if used + len(entry) > size:
                break
            parts.append(entry)
            used += len(entry)
        return b"".join(parts)


def _name(body: memoryview) -> str:
    return os.fsdecode(bytes(body).split(b"\0", 1)[0])
