"""Read the data set of an instance, exactly as it was received (G3). It is never decoded.

The bytes are hashed, and the last piece is sent only if the digest is that of the received data set. A peer
discards a data set whose end it never gets. So a file that is damaged, or that holds another version, is
never delivered as this instance.

A data set that fits into one piece is read and compared before anything is sent. Its file is nearly always in
the folder that its row names, so the other folders are looked at only if that one does not hold it. A larger
data set is hashed while it is sent, so all folders are looked at before.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from gateway.database.tables.instances import StoredInstance
from gateway.errors import AssociationBrokenError, FileMissingError
from gateway.faults import Faults
from gateway.log import Stage
from gateway.spool.part10_file import CHUNK_BYTES, Part10File
from gateway.spool.spool import Spool


class DataSetSource:
    """The data set of an instance; iterate it for the pieces, as often as it is sent.

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
        self._size = instance.data_set_size
        self._whole: bytes | None = None
        self._file: Part10File | None = None
        if self._size <= CHUNK_BYTES:
            self._whole = _whole(spool, instance)
            return
        try:
            self._file = _open(spool, instance)
        except FileMissingError:
            # The file was moved between the search and the open; search once more.
            self._file = _open(spool, instance)

    def __iter__(self) -> Iterator[memoryview]:
        """Yield the pieces of the data set; each is valid until the next is taken."""
        delay = self._faults.io_delay(self._stage)
        if delay:
            time.sleep(delay)
        drop = self._faults.drops_association(self._stage)
        for piece in self._pieces():
            if drop:
                yield piece[: len(piece) // 2]
                raise AssociationBrokenError("fault drop_association")
            self._progress()
            yield piece

    def _pieces(self) -> Iterator[memoryview]:
        if self._file is None:
            yield memoryview(self._whole or b"")
            return
        digest = hashlib.sha256()
        rest = self._size
        for chunk in self._file.chunks():
            digest.update(chunk)
            rest -= len(chunk)
            # Check before the last piece is sent: a peer that gets all pieces keeps the instance.
            if not rest and digest.hexdigest() != self._sha256:
                break
            yield chunk
        else:
            if not rest:
                return
        raise FileMissingError(f"{self._file.path} holds other bytes than were received")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _whole(spool: Spool, instance: StoredInstance) -> bytes:
    """Return a data set of one piece, from the folder that has it."""
    place, study, name = instance.place, instance.study_instance_uid, instance.file_name
    with suppress(FileMissingError):
        return _read(spool.path(place, study, name), instance)
    reason = f"no place under {spool.root} holds {study}/{name}"
    for _ in range(2):  # a file may be moved to a folder that was looked at already
        for path in spool.find_all(place, study, name):
            try:
                return _read(path, instance)
            except FileMissingError as error:
                reason = str(error)
    raise FileMissingError(reason)


def _read(path: Path, instance: StoredInstance) -> bytes:
    """Return the data set in that file, if it is what was received; else raise FileMissingError."""
    with Part10File(path) as file:
        _require_size(file, instance)
        data_set = b"".join(file.chunks())
    if hashlib.sha256(data_set).hexdigest() != instance.sha256:
        raise FileMissingError(f"{path} holds other bytes than were received")
    return data_set


def _require_size(file: Part10File, instance: StoredInstance) -> None:
    size, received = file.data_set_size, instance.data_set_size
    if size != received:
        raise FileMissingError(f"{file.path} holds {size} bytes of data set, received were {received}")


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
                _require_size(file, instance)
            except FileMissingError as error:
                reason = str(error)
                continue
            if len(paths) == 1 or file.holds(instance.data_set_size, instance.sha256):
                unless_found.pop_all()
                return file
            reason = f"{path} holds other bytes than were received"
    raise FileMissingError(reason)
