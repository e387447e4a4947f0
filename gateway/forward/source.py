"""Read the data set of an instance, exactly as it was received (G3). It is never decoded.

The bytes are hashed while they are sent. The last piece is sent only if the digest is that of the received
data set. A peer discards a data set whose end it never gets. So a file that is damaged, or that holds another
version, is never delivered as this instance. The file is read only once.
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
    """An open Part 10 file; iterate it for the pieces of its data set.

    `progress` is called before each piece. Iterating raises FileMissingError instead of the last
    piece if the data set is not what was received.

    Raises:
        FileMissingError: no folder holds the file, or the file is not what was received.
        SpoolError: the file cannot be opened or read.
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
            # The file was moved between the search and the open; search once more.
            self._file = _open(spool, instance)
        self.path = self._file.path

    def __iter__(self) -> Iterator[memoryview]:
        """Yield the pieces of the data set; each is valid until the next is taken."""
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
            # Check before the last piece is sent: a peer that gets all pieces keeps the instance.
            if rest <= 0 and digest.hexdigest() != self._sha256:
                break
            self._progress()
            yield chunk
        else:
            if not rest:
                return
        raise FileMissingError(f"{self.path} holds other bytes than were received")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(spool: Spool, instance: StoredInstance) -> Part10File:
    """Open the file of the instance: its data set must have the size that was received.

    If several folders hold a file of that name, one may be another version: compare the digest as well.
    """
    paths = list(spool.find_all(instance.place, instance.study_instance_uid, instance.file_name))
    reason = f"no place under {spool.root} holds {instance.study_instance_uid}/{instance.file_name}"
    for path in paths:
        with ExitStack() as unless_found:
            try:
                file = unless_found.enter_context(Part10File(path))
            except FileMissingError as error:
                reason = str(error)
                continue
            size = file.data_set_size
            if size != instance.data_set_size:
                reason = f"{path} holds {size} bytes of data set, received were {instance.data_set_size}"
            elif len(paths) == 1 or file.holds(size, instance.sha256):
                unless_found.pop_all()
                return file
            else:
                reason = f"{path} holds other bytes than were received"
    raise FileMissingError(reason)
