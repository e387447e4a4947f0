"""The bytes of an instance, exactly as they were received (G3): read from the file, never decoded."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from gateway.dicom.part10 import data_set_offset
from gateway.errors import AssociationBrokenError, DataSetError, FileMissingError
from gateway.faults import Faults
from gateway.log import Stage
from gateway.spool import Spool, failure
from gateway.store.instances import Stored

CHUNK_BYTES = 256 * 1024
META_BYTES = 16 * 1024
"""More than any File Meta Information that we write."""


class DataSetSource:
    """An open file, positioned behind its File Meta Information; iterate it for the data set.

    `progress` is called before each piece, that is, as long as the peer takes them.

    Raises:
        FileMissingError: no place holds the file, or what is there is not what was received.
        SpoolError: the file system refuses.
    """

    def __init__(
        self, spool: Spool, instance: Stored, *, faults: Faults, stage: Stage, progress: Callable[[], None]
    ) -> None:
        self._faults = faults
        self._stage = stage
        self._progress = progress
        self.path = self._open(spool, instance)
        if self._size != instance.data_set_size:
            self.close()
            raise FileMissingError(
                f"{self.path} holds {self._size} bytes of data set, received were {instance.data_set_size}"
            )

    def _open(self, spool: Spool, instance: Stored) -> Path:
        expected = spool.path(instance.place, instance.study_instance_uid, instance.file_name)
        path = spool.find(instance.place, instance.study_instance_uid, instance.file_name)
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            # moved between the look and the open; a second look finds it
            path = spool.find(instance.place, instance.study_instance_uid, instance.file_name)
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise failure("open", path, error) from error
        try:
            self._offset = data_set_offset(os.pread(self._descriptor, META_BYTES, 0)).data_set_offset
        except DataSetError as error:
            self.close()
            raise FileMissingError(f"{path}: {error}") from error
        self._size = os.fstat(self._descriptor).st_size - self._offset
        if path != expected and self._digest() != instance.sha256:
            # not where the row says: another version may have that name there
            self.close()
            raise FileMissingError(f"{path} holds other bytes than were received")
        return path

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for chunk in self._chunks():
            digest.update(chunk)
        return digest.hexdigest()

    def _chunks(self) -> Iterator[memoryview]:
        buffer = bytearray(CHUNK_BYTES)
        view = memoryview(buffer)
        offset = self._offset
        while count := os.preadv(self._descriptor, [buffer], offset):
            yield view[:count]
            offset += count

    def __iter__(self) -> Iterator[memoryview]:
        """The data set in pieces, each valid until the next is asked for."""
        delay = self._faults.io_delay(self._stage)
        if delay:
            time.sleep(delay)
        drop = self._faults.drops_association(self._stage)
        for chunk in self._chunks():
            if drop:
                yield chunk[: len(chunk) // 2]
                raise AssociationBrokenError("fault drop_association")
            self._progress()
            yield chunk

    def close(self) -> None:
        """The file is closed."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
