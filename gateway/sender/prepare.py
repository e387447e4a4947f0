"""From what is asked for to Part 10 files: collected, rewritten where asked, and generated."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.sender.collect import Skipped, collect
from gateway.sender.generate import Study, generate, write
from gateway.sender.outgoing import Outgoing
from gateway.sender.rewrite import Edits, rewrite


@dataclass(frozen=True, slots=True)
class Order:
    """What to send: instances at `paths` with `edits` made to them, then the generated `studies`."""

    paths: Sequence[Path]
    edits: Edits
    studies: Sequence[Study]


def prepare(order: Order, folder: Path) -> Iterator[Outgoing | Skipped]:
    """Each instance, ready to be sent, and each file that is not; new files are under `folder`.

    Raises:
        ValueError: the order contradicts itself, see `rewrite` and `generate`.
        OSError: a file cannot be read, or not be written to `folder`.
    """
    collection = collect(order.paths)
    yield from collection.skipped
    if order.edits and collection.instances:
        yield from rewrite(collection.instances, order.edits, folder)
    else:
        yield from collection.instances
    for study in order.studies:
        for instance in generate(study):
            yield write(instance, folder)
