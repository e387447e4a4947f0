"""The file of a kept instance: where its data set stands in it, and whether it is what was received.

A name proves nothing: it may mean another version, a file that a power cut tore, or one whose bits changed.
Who relies on a file asks here, by size, which costs a look, and by digest.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from gateway.dicom.dataset.part10 import own_data_set_offset
from gateway.errors import DataSetError, FileMissingError
from gateway.spool.spool import failure

CHUNK_BYTES = 256 * 1024
META_BYTES = 1024
"""More than what stands before the group length of the File Meta Information, and that."""


class Part10File:
    """An open Part 10 file; its data set in chunks.

    Raises:
        FileMissingError: it is not there, or is no Part 10 file.
        SpoolError: the file system refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise FileMissingError(f"{path} is not there") from error
        except OSError as error:
            raise failure("open", path, error) from error
        try:
            self._offset = own_data_set_offset(os.pread(self._descriptor, META_BYTES, 0))
            self.data_set_size = os.fstat(self._descriptor).st_size - self._offset
        except DataSetError as error:
            self.close()
            raise FileMissingError(f"{path}: {error}") from error
        except OSError as error:
            self.close()
            raise failure("read", path, error) from error

    def chunks(self) -> Iterator[memoryview]:
        """The data set, each chunk valid until the next is asked for; SpoolError where it cannot be read."""
        buffer = bytearray(CHUNK_BYTES)
        view = memoryview(buffer)
        offset = self._offset
        while True:
            try:
                count = os.preadv(self._descriptor, [buffer], offset)
            except OSError as error:
                raise failure("read", self.path, error) from error
            if not count:
                return
            yield view[:count]
            offset += count

    def holds(self, data_set_size: int, sha256: str) -> bool:
        """Tell whether its data set has that size and that digest, in hex; the file is read whole for it."""
        if self.data_set_size != data_set_size:
            return False
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest() == sha256

    def close(self) -> None:
        """The file is closed."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def holds(path: Path, data_set_size: int, sha256: str) -> bool:
    """Tell whether a file with that data set stands there; SpoolError where that cannot be read."""
    try:
        with Part10File(path) as kept:
            return kept.holds(data_set_size, sha256)
    except FileMissingError:
        return False
