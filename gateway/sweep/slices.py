"""Bound the time that one run of the sweep takes, and continue where the last run stopped.

The sweep of each minute gives each of its parts a slice of time. A part that walks over many files or rows
stores how far it came; the next run continues there. At the end it begins again. So everything is looked at
after some runs, and the cost of a run does not grow with the number of kept instances. A run by an operator
has no limit: it looks at everything, and neither reads nor stores a position.

Two runs at the same time may look at the same part twice. They skip nothing: a stored position was reached
from an earlier stored one.

If the process dies
    before the position is stored   the next run repeats the slice; to look again at what is repaired does
                                    no harm
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import NamedTuple

from gateway import log
from gateway.database.tables import sweeps
from gateway.log import Stage
from gateway.sweep.context import SweepContext

START = ""
"""The position at the begin of a pass."""


class Part(StrEnum):
    """What is walked over in slices; the name is a key in the table of positions, and a word in the log."""

    MESSAGES = "messages"
    OWED_FILES = "owed_files"
    STORED_FILES = "stored_files"
    MISSING_FILES = "missing_files"
    OLD_INSTANCES = "old_instances"
    ORPHANED_FILES = "orphaned_files"
    FOLDERS = "folders"


class Limit(NamedTuple):
    """How many seconds a slice may take: while it finds nothing to do, and once it has found something."""

    looking: float
    working: float


LIMITS = {
    Part.MESSAGES: Limit(0.2, 10),
    Part.OWED_FILES: Limit(0.3, 10),
    Part.STORED_FILES: Limit(0.5, 5),
    Part.MISSING_FILES: Limit(0.2, 2),
    Part.OLD_INSTANCES: Limit(0.2, 4),
    Part.ORPHANED_FILES: Limit(0.1, 2),
    Part.FOLDERS: Limit(0.1, 1),
}
"""A slice ends after the step in which its time is over, so it takes a little longer. A run that finds no
work must end in less than two seconds, and one that finds much work in each part within its minute."""


class Slice:
    """What one run does of a part.

    `position` is how far the pass came; the part sets it after each step.
    """

    def __init__(self, context: SweepContext, part: Part, position: str) -> None:
        self.position = position
        self._context = context
        self._part = part
        self._began = context.clock()
        self._seconds = LIMITS[part].looking

    def has_work(self) -> None:
        """Note that there is something to do: the slice may take longer."""
        self._seconds = LIMITS[self._part].working

    @property
    def is_over(self) -> bool:
        """Tell whether the time of the slice is over; at least one step is done before it is asked."""
        return self._context.sliced and self._context.clock() - self._began >= self._seconds

    def looked_at(self, count: int) -> None:
        """Report progress to an operator who waits for the run."""
        if self._context.progress is not None:
            self._context.progress(self._part, count)


@contextmanager
def sliced(context: SweepContext, part: Part) -> Iterator[Slice]:
    """Lend the next slice of a part; store its position when the block ends without an error."""
    if not context.sliced:
        yield Slice(context, part, START)
        return
    with context.database.statement() as session:
        before = sweeps.position(session, part)
    one = Slice(context, part, before)
    yield one
    if one.position == START:
        context.unfinished.discard(part)
    else:
        context.unfinished.add(part)
    if one.position == before or context.dry:
        return
    with context.database.statement() as session:
        seconds = sweeps.store_position(session, part, one.position)
    if one.position == START:  # a pass over several runs has ended
        log.write(Stage.SWEEP, "pass_ended", detail=part.value, duration_ms=seconds * 1000)
