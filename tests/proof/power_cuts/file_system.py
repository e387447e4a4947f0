"""The operations of a file system, behind the requests of `fuse`. A file has a number, not a path."""

import errno
import struct
from dataclasses import dataclass

ROOT = 1
"""The number of the root folder."""

Owner = tuple[int, int]
"""User and group."""

_ATTRIBUTES = struct.Struct("=6Q10I")


@dataclass(frozen=True, slots=True)
class Attributes:
    """What stat(2) says of a file."""

    number: int
    mode: int
    size: int = 0
    links: int = 1
    user: int = 0
    group: int = 0
    changed_ns: int = 0
    """Of the content and of the file alike: nothing here compares the two."""

    def pack(self) -> bytes:
        """Return it in the kernel's form."""
        seconds, rest = divmod(self.changed_ns, 10**9)
        times = (seconds,) * 3
        blocks = (self.size + 511) // 512
        return _ATTRIBUTES.pack(
            *(self.number, self.size, blocks, *times, rest, rest, rest),
            *(self.mode, self.links, self.user, self.group, 0, 4096, 0),
        )


@dataclass(frozen=True, slots=True)
class Change:
    """What chmod, chown and truncate ask for; None stays as it is. Times cannot be set."""

    permissions: int | None
    user: int | None
    group: int | None
    size: int | None


class FileSystem:
    """The operations; each raises OSError where the kernel must answer an error."""

    def lookup(self, folder: int, name: str) -> int:
        """Return the number of the file of that name."""
        raise OSError(errno.ENOENT, name, folder)

    def attributes(self, number: int) -> Attributes:
        """Return what stat(2) says."""
        raise OSError(errno.ENOENT, number)

    def change(self, number: int, change: Change) -> None:
        """Change mode, owner or size."""
        raise OSError(errno.EPERM, number, change)

    def create(self, folder: int, name: str, mode: int, owner: Owner, *, exclusive: bool) -> int:
        """Make an empty file, or return the one that is there unless `exclusive`."""
        raise OSError(errno.EPERM, folder, name, mode, owner, exclusive)

    def make_folder(self, folder: int, name: str, mode: int, owner: Owner) -> int:
        """Make an empty folder."""
        raise OSError(errno.EPERM, folder, name, mode, owner)

    def unlink(self, folder: int, name: str, *, is_folder: bool) -> None:
        """Remove a name."""
        raise OSError(errno.EPERM, folder, name, is_folder)

    def rename(self, folder: int, name: str, new_folder: int, new_name: str) -> None:
        """Move a name; replace what has the new one."""
        raise OSError(errno.EPERM, folder, name, new_folder, new_name)

    def link(self, number: int, folder: int, name: str) -> int:
        """Give the file a further name; return its number."""
        raise OSError(errno.EPERM, number, folder, name)

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Return the bytes there; fewer at the end of the file."""
        raise OSError(errno.EIO, number, offset, size)

    def write(self, number: int, offset: int, data: memoryview) -> None:
        """Write all of `data`."""
        raise OSError(errno.EIO, number, offset, len(data))

    def flush(self, number: int, *, is_folder: bool) -> None:
        """Make the content durable: the bytes of a file, or the names in a folder."""
        raise OSError(errno.EIO, number, is_folder)

    def names(self, folder: int) -> list[tuple[int, str, int, int]]:
        """Return position, name, number and mode of each entry.

        The position is above zero and rises; an entry keeps its own while others come and go.
        """
        raise OSError(errno.ENOTDIR, folder)
