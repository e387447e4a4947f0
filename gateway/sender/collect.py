"""Find the instances in files and folders; a file that cannot be sent is skipped with a reason.

A file can be sent if it is a Part 10 file of a patient-related Storage SOP Class with SOP Instance, Study and
Series Instance UID. Only its header is read into memory.
"""

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from gateway.dicom.contexts import storage_sop_classes
from gateway.dicom.dataset.part10 import FileMeta, read_file_meta
from gateway.domain.identifiers import is_uid
from gateway.errors import DataSetError
from gateway.sender.outgoing import Outgoing

_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_HEADER_BYTES = 1 << 16
"""More than any normal File Meta Information needs."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is not sent; `named` is True if the user named the file itself and not its folder."""

    path: Path
    reason: str
    named: bool


@dataclass(frozen=True, slots=True)
class Collection:
    """The result for a list of paths, in their order; in a folder, in the order of the file names."""

    instances: tuple[Outgoing, ...]
    skipped: tuple[Skipped, ...]


class NotSendableError(Exception):
    """The file cannot be sent; the message is the reason, without the path."""


def collect(paths: Iterable[Path]) -> Collection:
    """Return the instances at `paths`, and the files that are skipped; search folders with all subfolders."""
    instances: list[Outgoing] = []
    skipped: list[Skipped] = []
    for path, named in _files(paths):
        try:
            instances.append(read(path))
        except NotSendableError as error:
            skipped.append(Skipped(path, str(error), named))
    return Collection(tuple(instances), tuple(skipped))


def read(path: Path) -> Outgoing:
    """Return the instance in the Part 10 file `path`.

    Raises:
        NotSendableError: it cannot be sent.
    """
    try:
        with warnings.catch_warnings():
            # Test files may be wrong on purpose; the needed values are checked below.
            warnings.simplefilter("ignore")
            header = dcmread(path, stop_before_pixels=True, specific_tags=list(_NEEDED))
            meta = _file_meta(path)
            uids = [str(header.get(keyword) or "") for keyword in _NEEDED]
    except InvalidDicomError as error:
        raise NotSendableError("no DICOM file (no DICM after 128 bytes)") from error
    except DataSetError as error:
        raise NotSendableError(str(error)) from error
    except OSError as error:
        raise NotSendableError(f"cannot be read: {error.strerror or error}") from error
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        NotImplementedError,
        ArithmeticError,
    ) as error:
        raise NotSendableError(f"header cannot be parsed: {type(error).__name__}") from error
    for keyword, uid in zip((*_NEEDED, "TransferSyntaxUID"), (*uids, meta.transfer_syntax_uid), strict=True):
        if not uid:
            raise NotSendableError(f"no {keyword}")
        if not is_uid(uid):
            raise NotSendableError(f"{keyword} is no valid UID")
    sop_class_uid, sop_instance_uid, study_instance_uid, series_instance_uid = uids
    if sop_class_uid not in storage_sop_classes():
        raise NotSendableError(f"{UID(sop_class_uid).name} is not a patient-related Storage SOP Class")
    return Outgoing(
        path=path,
        origin=path,
        data_set_offset=meta.data_set_offset,
        size=path.stat().st_size - meta.data_set_offset,
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_instance_uid,
        series_instance_uid=series_instance_uid,
        study_instance_uid=study_instance_uid,
        transfer_syntax_uid=meta.transfer_syntax_uid,
    )


def _files(paths: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    for path in paths:
        if not path.is_dir():
            yield path, True
            continue
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                yield Path(folder, name), False


def _file_meta(path: Path) -> FileMeta:
    with path.open("rb") as file:
        return read_file_meta(file.read(_HEADER_BYTES))
