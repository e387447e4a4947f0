"""From what is asked for to Part 10 files: collected, rewritten where asked, and generated."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.sender.collect import Skipped, collect
from gateway.sender.generate import Study, generate, write
from gateway.sender.outgoing import Outgoing
from gateway.sender.rewrite import Edits, rewrite


@dataclass(frozen=True, slots=True)
class SendRequest:
    """What to send: instances at `paths` with `edits` made to them, then the generated `studies`.

    Everything is sent `times` times. With `edits.new_uids` the instances at `paths` are new ones each time;
    what else is sent again is the same instance.
    """

    paths: Sequence[Path]
    edits: Edits
    studies: Sequence[Study]
    times: int = 1

    @property
    def generated(self) -> int:
        """How many instances the studies have."""
        return sum(study.instances for study in self.studies)

    @property
    def total(self) -> int | None:
        """How many instances are sent; None where only reading the paths can tell."""
        return None if self.paths else self.times * self.generated


def prepare(order: SendRequest, folder: Path) -> Iterator[Outgoing | Skipped]:
    """Yield each instance, ready to be sent, and once each file that is not; new files are under `folder`.

    Raises:
        ValueError: the order contradicts itself, see `rewrite` and `generate`.
        OSError: a file cannot be read, or not be written to `folder`.
    """
    collection = collect(order.paths)
    yield from collection.skipped
    made: list[Outgoing] = []
    for piece in _once(order, collection.instances, folder):
        if isinstance(piece, Outgoing):
            made.append(piece)
        yield piece
    for _ in range(order.times - 1):
        if order.edits.new_uids:
            again = rewrite(collection.instances, order.edits, folder)
            yield from (piece for piece in again if isinstance(piece, Outgoing))
            yield from made[len(made) - order.generated :]
        else:
            yield from made


def _once(order: SendRequest, instances: Sequence[Outgoing], folder: Path) -> Iterator[Outgoing | Skipped]:
    if order.edits and instances:
        yield from rewrite(instances, order.edits, folder)
    else:
        yield from instances
    for study in order.studies:
        for instance in generate(study):
            yield write(instance, folder)
