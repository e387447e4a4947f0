"""A file system in memory that can forget: what a power cut takes is what was not flushed.

Bytes and names are apart, as POSIX has it:

    bytes of a file          durable after fsync or fdatasync of the file
    a name (create, link,    durable after fsync of the folder that has it; the flush of the file
    unlink, rename, mkdir)   does not cover it

`cut` returns what is left: everything that was flushed, and of the rest nothing, everything or a part, as
the generator chooses. Which parts of the names are possible is said by `Names`.
"""

import errno
import stat
import time
from collections import Counter
from dataclasses import dataclass
from random import Random

from proof.power_cuts.file_system import ROOT, Attributes, Change, FileSystem, Owner
from proof.power_cuts.forgetful_nodes import Names, Node, Step, forget_bytes, put, required_steps


@dataclass(frozen=True, slots=True)
class Loss:
    """What a power cut took."""

    names: int
    """Steps that changed a name."""
    files: int
    """Files that kept not all of their bytes."""


class ForgetfulFiles(FileSystem):
    """The files; with `lies` a flush does nothing, as on a disk that answers too early."""

    def __init__(self, *, lies: bool = False) -> None:
        self._lies = lies
        self._nodes = {ROOT: Node(stat.S_IFDIR | 0o755, (0, 0), links=2)}
        self._steps: list[Step] = []
        self._last = ROOT
        self._position = 0

    # ---- looking -------------------------------------------------------------------------------------

    def lookup(self, folder: int, name: str) -> int:
        """Return the number of the file of that name."""
        try:
            return self._nodes[folder].entries[name][0]
        except KeyError as error:
            raise OSError(errno.ENOENT, name) from error

    def attributes(self, number: int) -> Attributes:
        """Return what stat(2) says."""
        node = self._node(number)
        return Attributes(number, node.mode, len(node.data), node.links, *node.owner, node.changed_ns)

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Return the bytes there, flushed or not."""
        return bytes(self._node(number).data[offset : offset + size])

    def names(self, folder: int) -> list[tuple[int, str, int, int]]:
        """Return the entries in the order in which they were made."""
        return [
            (position, name, number, self._nodes[number].mode)
            for name, (number, position) in self._node(folder).entries.items()
        ]

    def _node(self, number: int) -> Node:
        try:
            return self._nodes[number]
        except KeyError as error:
            raise OSError(errno.ESTALE, f"no file {number}") from error

    # ---- names ---------------------------------------------------------------------------------------

    def create(self, folder: int, name: str, mode: int, owner: Owner, *, exclusive: bool) -> int:
        """Make an empty file, or return the one that is there unless `exclusive`."""
        if name in self._node(folder).entries:
            if exclusive:
                raise OSError(errno.EEXIST, name)
            return self.lookup(folder, name)
        return self._add(folder, name, Node(stat.S_IFREG | stat.S_IMODE(mode), owner))

    def make_folder(self, folder: int, name: str, mode: int, owner: Owner) -> int:
        """Make an empty folder."""
        if name in self._node(folder).entries:
            raise OSError(errno.EEXIST, name)
        return self._add(folder, name, Node(stat.S_IFDIR | stat.S_IMODE(mode), owner, links=2))

    def link(self, number: int, folder: int, name: str) -> int:
        """Give the file a further name."""
        if name in self._node(folder).entries:
            raise OSError(errno.EEXIST, name)
        node = self._node(number)
        if not node.links:
            raise OSError(errno.ENOENT, name)
        node.links += 1
        self._step(number, (folder, name, number))
        return number

    def unlink(self, folder: int, name: str, *, is_folder: bool) -> None:
        """Remove a name."""
        number = self.lookup(folder, name)
        node = self._nodes[number]
        if is_folder and node.entries:
            raise OSError(errno.ENOTEMPTY, name)
        node.links -= 2 if is_folder else 1
        self._step(number, (folder, name, None))

    def rename(self, folder: int, name: str, new_folder: int, new_name: str) -> None:
        """Move a name in one step, as the journals of file systems do."""
        number = self.lookup(folder, name)
        replaced = self._node(new_folder).entries.get(new_name)
        if replaced is not None and replaced[0] == number:
            return
        if replaced is not None:
            self._nodes[replaced[0]].links -= 1
        self._step(number, (folder, name, None), (new_folder, new_name, number))

    def _add(self, folder: int, name: str, node: Node) -> int:
        self._last += 1
        self._nodes[self._last] = node
        self._step(self._last, (folder, name, self._last))
        return self._last

    def _step(self, number: int, *changes: tuple[int, str, int | None]) -> None:
        self._steps.append(Step(number, changes))
        now = time.time_ns()
        self._nodes[number].changed_ns = now
        for folder, name, target in changes:
            node = self._nodes[folder]
            node.changed_ns = now
            if target is None:
                del node.entries[name]
            else:
                node.entries.pop(name, None)
                self._position += 1
                node.entries[name] = (target, self._position)

    # ---- bytes ---------------------------------------------------------------------------------------

    def write(self, number: int, offset: int, data: memoryview) -> None:
        """Write into memory only."""
        self._apply(self._node(number), offset, bytes(data))

    def change(self, number: int, change: Change) -> None:
        """Change mode and owner, which are durable at once, or the size, which is not."""
        node = self._node(number)
        if change.permissions is not None:
            node.mode = stat.S_IFMT(node.mode) | change.permissions
        user, group = node.owner
        node.owner = (
            user if change.user is None else change.user,
            group if change.group is None else change.group,
        )
        if change.size is not None:
            self._apply(node, change.size, None)

    @staticmethod
    def _apply(node: Node, offset: int, data: bytes | None) -> None:
        put(node.data, offset, data)
        node.pending.append((offset, data))
        node.changed_ns = time.time_ns()

    def flush(self, number: int, *, is_folder: bool) -> None:
        """Make the bytes of a file durable, or the names in a folder."""
        node = self._node(number)
        if self._lies:
            return
        if not is_folder:
            node.flushed, node.pending = bytes(node.data), []
            return
        for step in self._steps:
            if any(folder == number for folder, *_ in step.changes):
                step.flushed = True

    # ---- the power cut -------------------------------------------------------------------------------

    def cut(self, generator: Random, names: Names) -> Loss:
        """Forget what a power cut takes."""
        kept = self._kept_steps(generator, names)
        for step in kept:
            for folder, name, target in step.changes:
                durable = self._nodes[folder].durable
                durable.pop(name, None)
                if target is not None:
                    durable[name] = target
        torn = 0
        how = generator.choice(("nothing", "everything", "a part"))
        for node in self._nodes.values():
            torn += bool(node.pending) and forget_bytes(node, generator, how)
        lost = len(self._steps) - len(kept)
        self._steps = []
        self._keep_reachable()
        return Loss(lost, torn)

    def _kept_steps(self, generator: Random, names: Names) -> list[Step]:
        how = generator.choice(("nothing", "everything", "a part"))
        share = {"nothing": 0.0, "everything": 1.0}.get(how, generator.random())
        if names is Names.JOURNAL:
            share **= 1 / (1 + len(self._steps))  # the first one that is lost takes all behind it
        required = required_steps(self._steps, names)
        kept: list[Step] = []
        lost: set[object] = set()
        for step in self._steps:
            things = step.things(names)
            if id(step) in required or (not things & lost and generator.random() < share):
                kept.append(step)
            else:
                lost |= things
        return kept

    def _keep_reachable(self) -> None:
        links: Counter[int] = Counter()
        reached, left = {ROOT}, [ROOT]
        while left:
            node = self._nodes[left.pop()]
            node.entries = {}
            for name, number in node.durable.items():
                self._position += 1
                node.entries[name] = (number, self._position)
                links[number] += 1
                if number not in reached:
                    reached.add(number)
                    left.append(number)
        self._nodes = {number: self._nodes[number] for number in reached}
        for number, node in self._nodes.items():
            node.links = 2 if stat.S_ISDIR(node.mode) else links[number]
