"""The bytes of an instance, exactly as they were received (G3): read from the file, never decoded.

They are hashed on their way out, and the last of them leaves only if all are those that were received: a
peer that never gets the end of a data set keeps nothing of it. So no second look at the file is needed, and
what changed on the disk, or stood under the name by mistake, is never delivered as this instance.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Self

from gateway.database.tables.instances import StoredInstance
from gateway.errors import AssociationBrokenError, FileMissingError
from gateway.faults import Faults
from gateway.log import Stage
from gateway.spool.part10_file import Part10File
from gateway.spool.spool import Spool


class DataSetSource:
    """An open file, positioned behind its File Meta Information; iterate it for the data set.

    `progress` is called before each piece, that is, as long as the peer takes them. Iterating raises
    FileMissingError instead of the last piece where the whole is not what was received.

    Raises:
        FileMissingError: no place holds the file, or what is there is not what was received.
        SpoolError: the file system refuses.
    """

    def __init__(
        self,
        spool: Spool,
        instance: StoredInstance,
        *,
        faults: Faults,
        stage: Stage,
        progress: Callable[[], None],
    ) -> None:
        self._faults = faults
        self._stage = stage
        self._progress = progress
        self._sha256 = instance.sha256
        try:
            self._file = _open(spool, instance)
        except FileMissingError:
            # moved between the look and the open; a second look finds it
            self._file = _open(spool, instance)
        self.path = self._file.path

    def __iter__(self) -> Iterator[memoryview]:
        """The data set in pieces, each valid until the next is asked for."""
        delay = self._faults.io_delay(self._stage)
        if delay:
            time.sleep(delay)
        drop = self._faults.drops_association(self._stage)
        digest = hashlib.sha256()
        rest = self._file.data_set_size
        for chunk in self._file.chunks():
            if drop:
                yield chunk[: len(chunk) // 2]
                raise AssociationBrokenError("fault drop_association")
            digest.update(chunk)
            rest -= len(chunk)
            if rest <= 0 and digest.hexdigest() != self._sha256:
                break
            self._progress()
            yield chunk
        else:
            if not rest:
                return
        raise FileMissingError(f"{self.path} holds other bytes than were received")

    def close(self) -> None:
        """The file is closed."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(spool: Spool, instance: StoredInstance) -> Part10File:
    """The file, by its size; where several places hold that name, by its digest: one is another version's."""
    paths = list(spool.find_all(instance.place, instance.study_instance_uid, instance.file_name))
    reason = f"no place under {spool.root} holds {instance.study_instance_uid}/{instance.file_name}"
    for path in paths:
        with ExitStack() as unless_right:
            try:
                kept = unless_right.enter_context(Part10File(path))
            except FileMissingError as error:
                reason = str(error)
                continue
            size = kept.data_set_size
            if size != instance.data_set_size:
                reason = f"{path} holds {size} bytes of data set, received were {instance.data_set_size}"
            elif len(paths) == 1 or kept.holds(size, instance.sha256):
                unless_right.pop_all()
                return kept
            else:
                reason = f"{path} holds other bytes than were received"
    raise FileMissingError(reason)
