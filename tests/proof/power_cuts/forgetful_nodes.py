"""The file system that forgets: its files, the steps that changed names, and what a cut does to each."""

import time
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from proof.power_cuts.file_system import Owner

BLOCK = 4096
"""A write of several blocks may be torn between two of them."""


class Names(StrEnum):
    """Which of the steps that changed names, and were not flushed, a power cut may keep."""

    JOURNAL = "journal"
    """Those up to one of them, as ext4 and xfs do: a flush also keeps everything before it."""
    PER_FILE = "per-file"
    """Of each file those up to one of them; steps of different files and names are independent."""
    ANY = "any"
    """Each or none, which POSIX allows; only steps of one name in one folder keep their order. Then the link
    of a move may be lost, and its unlink kept."""


@dataclass(slots=True)
class Node:
    """A file or a folder, as readers see it and as it was flushed."""

    mode: int
    owner: Owner
    changed_ns: int = field(default_factory=time.time_ns)
    links: int = 1
    data: bytearray = field(default_factory=bytearray)
    flushed: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Since the last flush: offset and bytes of a write, or the new size and None."""
    entries: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of a folder: name -> number and position."""
    durable: dict[str, int] = field(default_factory=dict)
    """Of a folder: the names after the last power cut, before the steps since then."""


@dataclass(slots=True)
class Step:
    """One change of names: of each folder the name, and the file that has it afterwards."""

    number: int
    changes: tuple[tuple[int, str, int | None], ...]
    flushed: bool = False

    def things(self, names: Names) -> set[object]:
        """Return what the step changes; it presupposes every earlier step that changed one of them."""
        things: set[object] = {(folder, name) for folder, name, _ in self.changes}
        if names is Names.JOURNAL:
            things.add(Names.JOURNAL)
        elif names is Names.PER_FILE:
            things.add(self.number)
        return things


def required_steps(steps: list[Step], names: Names) -> set[int]:
    """Return the ids of the steps that were flushed, and of all that these presuppose."""
    required: set[int] = set()
    needed: set[object] = set()
    for step in reversed(steps):
        things = step.things(names)
        if step.flushed or things & needed:
            required.add(id(step))
            needed |= things
    return required


def put(content: bytearray, offset: int, data: bytes | None) -> None:
    """Write `data` at the offset; without data, make the content end there."""
    if data is None:
        del content[offset:]
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    if data is not None:
        content[offset : offset + len(data)] = data


def forget_bytes(node: Node, generator: Random, how: str) -> bool:
    """Replace the content by what was flushed and what the generator keeps; tell whether it lost bytes."""
    before = bytes(node.data)
    if how != "everything":
        node.data = bytearray(node.flushed)
    if how == "a part":
        blocks = _in_blocks(node.pending)
        in_order = generator.random() < 0.5
        kept = generator.randint(0, len(blocks))
        share = generator.random()
        for index, (offset, data) in enumerate(blocks):
            if index < kept if in_order else generator.random() < share:
                put(node.data, offset, data)
    node.flushed, node.pending = bytes(node.data), []
    return node.flushed != before


def _in_blocks(pending: list[tuple[int, bytes | None]]) -> list[tuple[int, bytes | None]]:
    blocks: list[tuple[int, bytes | None]] = []
    for offset, data in pending:
        if data is None:
            blocks.append((offset, None))
        else:
            blocks += [(offset + at, data[at : at + BLOCK]) for at in range(0, len(data), BLOCK)]
    return blocks
