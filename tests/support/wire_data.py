"""The benchmarks' data: Part 10 files on disk, with UIDs of their own, one folder for each study."""

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gateway.dicom.dataset.part10 import preamble_and_file_meta
from support.synthetic_instances import CT, EXPLICIT, Instance

QUICK = bool(os.environ.get("BENCH_QUICK"))
"""A tenth of the counts: for a quick run, not for a published figure."""

FOLDERS = 8
CT_BYTES = 512 * 512 * 2
SMALL_BYTES = 4096 - 512


def scaled(count: int) -> int:
    """Return that count, or a tenth of it for a quick run."""
    return max(FOLDERS, count // 10) if QUICK else count


@dataclass(frozen=True)
class Load:
    """Instances of one size; `folders` hold them in equal parts."""

    name: str
    folders: tuple[Path, ...]
    count: int
    payload: bytes

    @cached_property
    def instances(self) -> list[Instance]:
        """Return as many new instances of the same size, for a sender in this process."""
        return made(self.count, self.payload)

    def share(self, count: int) -> "Load":
        """Return a smaller load: whole folders, at least one, with about `count` instances."""
        each = self.count // len(self.folders)
        folders = self.folders[: max(1, min(len(self.folders), count // each))]
        return Load(self.name, folders, each * len(folders), self.payload)


def made(count: int, payload: bytes) -> list[Instance]:
    """Return that many instances of one new study."""
    root = _root()
    return [
        Instance(sop_instance_uid=f"{root}.{n}", study_instance_uid=f"{root}.0", payload=payload)
        for n in range(1, count + 1)
    ]


def part10(instance: Instance) -> bytes:
    """Return the instance as a Part 10 file."""
    head = preamble_and_file_meta(
        instance.sop_class_uid, instance.sop_instance_uid, EXPLICIT, source_ae_title="BENCH"
    )
    return head + instance.data_set()


def write(folder: Path, name: str, count: int, payload_bytes: int) -> Load:
    """Write `count` CT instances with that many bytes of random pixels."""
    payload = secrets.token_bytes(payload_bytes)
    folders = tuple(folder / f"{name}-{number}" for number in range(FOLDERS))
    for place in folders:
        place.mkdir(parents=True)
        for number, instance in enumerate(made(count // FOLDERS, payload)):
            (place / f"{number:05}.dcm").write_bytes(part10(instance))
    return Load(name, folders, count // FOLDERS * FOLDERS, payload)


def data_set_bytes(load: Load) -> Sequence[bytes]:
    """Return the encoded data sets of `load.instances`, so that a measurement does not include encoding."""
    return [instance.data_set() for instance in load.instances]


def _root() -> str:
    return f"1.2.826.0.1.{secrets.randbits(60)}"


__all__ = ("CT", "EXPLICIT", "Load", "data_set_bytes", "made", "part10", "scaled", "write")
