"""Read the Part 10 file of a stored instance, and verify that it holds what was received.

Do not trust file names: a file may be another version, torn by a power cut, or damaged later. Verify size
and SHA-256 of the data set; the size is compared first, because that does not read the file.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from gateway.dicom.dataset.header import Header, read_header
from gateway.dicom.dataset.part10 import own_data_set_offset
from gateway.dicom.dataset.search_values import SearchValues, read_search_values
from gateway.errors import DataSetError, FileMissingError
from gateway.spool.flush import failure

CHUNK_BYTES = 256 * 1024
META_BYTES = 1024
"""How many bytes are read to find (0002,0000), the group length, whose value ends at byte 144."""


class Part10File:
    """An open Part 10 file that the gateway wrote.

    Raises:
        FileMissingError: there is no file, or it is no Part 10 file.
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
            raise FileMissingError(f"{path} holds other bytes than were received: {error}") from error
        except OSError as error:
            self.close()
            raise failure("read", path, error) from error

    def chunks(self) -> Iterator[memoryview]:
        """Yield the data set in chunks; each is valid until the next one.

        Raises:
            SpoolError: the file cannot be read.
        """
        left = self.data_set_size
        view = memoryview(bytearray(min(CHUNK_BYTES, max(0, left))))
        offset = self._offset
        while left > 0:
            try:
                count = os.preadv(self._descriptor, [view[:left]], offset)
            except OSError as error:
                raise failure("read", self.path, error) from error
            if not count:
                return  # it was cut short meanwhile
            yield view[:count]
            offset += count
            left -= count

    def holds(self, data_set_size: int, sha256: str) -> bool:
        """Tell whether the data set has that size and that SHA-256 (in hex); this reads the whole file."""
        if self.data_set_size != data_set_size:
            return False
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest() == sha256

    def header(self, transfer_syntax_uid: str) -> Header:
        """Return the values of its data set, with its references.

        Raises:
            DataSetError: it cannot be parsed as far as needed.
        """
        return read_header(self._descriptor, self._offset, transfer_syntax_uid, with_references=True)

    def search_values(self, transfer_syntax_uid: str) -> SearchValues:
        """Return the accession number and the patient ID, for an operator's search; never log them (G8).

        Raises:
            DataSetError: the data set cannot be parsed as far as they are.
        """
        return read_search_values(self._descriptor, self._offset, transfer_syntax_uid)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class References(NamedTuple):
    """The UIDs that a result names; `defect` is the reason if some may be missing."""

    sop_instance_uids: tuple[str, ...] = ()
    series_instance_uids: tuple[str, ...] = ()
    study_instance_uids: tuple[str, ...] = ()
    defect: str = ""


def read_references(path: Path, transfer_syntax_uid: str) -> References:
    """Return the references of a result to its sources.

    Raises:
        SpoolError: the file cannot be read.
        DataSetError: its data set cannot be parsed.
    """
    with Part10File(path) as file:
        header = file.header(transfer_syntax_uid)
    return References(
        header.referenced_sop_instance_uids,
        header.referenced_series_instance_uids,
        header.referenced_study_instance_uids,
        header.defect,
    )


def holds(path: Path, data_set_size: int, sha256: str) -> bool:
    """Tell whether `path` is a file with that data set.

    Raises:
        SpoolError: the file cannot be read.
    """
    try:
        with Part10File(path) as file:
            return file.holds(data_set_size, sha256)
    except FileMissingError:
        return False
