"""Prepare the Part 10 files of a request: collect, rewrite on request, and generate."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.sender.collect import Skipped, collect
from gateway.sender.generate import Study, generate, write
from gateway.sender.outgoing import Outgoing
from gateway.sender.rewrite import Edits, rewrite


@dataclass(frozen=True, slots=True)
class SendRequest:
    """What to send: the instances at `paths` changed by `edits`, then the generated `studies`.

    Everything is sent `times` times. With `edits.new_uids` the instances at `paths` get new UIDs each time;
    other instances are repeated unchanged.
    """

    paths: Sequence[Path]
    edits: Edits
    studies: Sequence[Study]
    times: int = 1

    @property
    def generated(self) -> int:
        """The number of instances in `studies`."""
        return sum(study.instances for study in self.studies)

    @property
    def total(self) -> int | None:
        """The number of instances that are sent; None if there are paths, which must be read first."""
        return None if self.paths else self.times * self.generated


def prepare(request: SendRequest, folder: Path) -> Iterator[Outgoing | Skipped]:
    """Yield each instance to send, and each skipped file once; write new files to `folder`.

    Raises:
        ValueError: the request contradicts itself; see `rewrite` and `generate`.
        OSError: a file cannot be read, or not be written to `folder`.
    """
    collection = collect(request.paths)
    yield from collection.skipped
    made: list[Outgoing] = []
    for item in _once(request, collection.instances, folder):
        if isinstance(item, Outgoing):
            made.append(item)
        yield item
    for _ in range(request.times - 1):
        if request.edits.new_uids:
            again = rewrite(collection.instances, request.edits, folder)
            yield from (item for item in again if isinstance(item, Outgoing))
            yield from made[len(made) - request.generated :]
        else:
            yield from made


def _once(request: SendRequest, instances: Sequence[Outgoing], folder: Path) -> Iterator[Outgoing | Skipped]:
    if request.edits and instances:
        yield from rewrite(instances, request.edits, folder)
    else:
        yield from instances
    for study in request.studies:
        for instance in generate(study):
            yield write(instance, folder)
