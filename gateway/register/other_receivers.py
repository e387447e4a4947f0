"""Count the unregistered receptions of the other receivers, living and dead, for the reserve of the disk."""

import os
from contextlib import suppress
from time import monotonic

from gateway.register.unregistered import REFUSED
from gateway.spool.partial import PARTIAL, SUFFIX
from gateway.spool.spool import Spool

COUNT_AGAIN_SECONDS = 5.0
"""How long a count is used. In that time the others may receive more; the reserve must exceed its rows."""
SHARE = 0.02
"""The largest share of the time that counting may take: a longer count is used for longer."""


class OtherReceivers:
    """Counts the `.part` links in the folders of the other receivers; also those of C-STOREs under way."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._count = 0
        self._count_again_at = float("-inf")

    def unregistered(self) -> int:
        """Return the number as it was counted last, at most COUNT_AGAIN_SECONDS ago or a little more."""
        now = monotonic()
        if now >= self._count_again_at:
            self._count_again_at = now + COUNT_AGAIN_SECONDS  # other threads use the old number meanwhile
            self._count = self._links()
            ended = monotonic()
            self._count_again_at = ended + max(COUNT_AGAIN_SECONDS, (ended - now) / SHARE)
        return self._count

    def _links(self) -> int:
        own = self._spool.receiver.name
        count = 0
        with suppress(FileNotFoundError), os.scandir(self._spool.root / PARTIAL) as folders:
            for folder in folders:
                if folder.name in {own, REFUSED}:
                    continue
                with suppress(FileNotFoundError, NotADirectoryError):
                    count += sum(name.endswith(SUFFIX) for name in os.listdir(folder))  # noqa: PTH208  names, not paths
        return count
