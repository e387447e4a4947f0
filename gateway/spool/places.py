"""Name, find, move and remove the files of instances.

    <data_root>/incoming|queued|sent|failed/<study>/<file name>    files with a row, or unregistered
    <data_root>/orphaned|damaged/<study>/<file name>               files that reconcile or recovery set aside

The row of an instance says in which place its file is. Moving the file and updating the row are two steps,
and a move is not flushed. So a reader looks in the place that the row names, then in the others.

No method replaces a file. A final name is a hard link, because link(2) fails if the name is taken. rename(2)
would replace the existing file.

Methods that run for each reception or delivery take paths as texts. A Path costs as much as the system call.

If the process dies during a move
    before the link      the file is in its old place
    before the unlink    the file is in both places; reconcile keeps the one in the place of its row

If the power fails during a move, the file is in one of the two places or in both.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from time import monotonic
from uuid import uuid4

from gateway.domain.instance import Place
from gateway.errors import FileMissingError, SpoolError
from gateway.spool.flush import failure, flush_directory, make_folder

ORPHANED = "orphaned"
DAMAGED = "damaged"
"""Files of an instance that is unregistered or still to be delivered, whose bytes differ from those received.
The gateway never deletes them."""

DIRECTORY_TRUST_SECONDS = 600.0
"""How long the flush of a directory's entry is trusted and not repeated. It must be shorter than the age at
which the sweep removes empty directories (an hour). After that age, another process may have created the
directory again and not flushed it."""

_MAX_TRUSTED = 10_000
"""Limits the memory for flushed directories; one that is dropped is flushed again when it is used."""


_FOLDERS = (*Place, ORPHANED)

_MAX_KEPT = 1_000
"""Limits the memory for the paths of folders."""


class Places:
    """The folders of `edge.data_root` that hold final names; used by all threads of a process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root = str(root)
        self._trusted: dict[str, float] = {}  # directory -> until when its entry counts as flushed
        self._folders: dict[tuple[str, str], Path] = {}
        self._lock = Lock()

    # ---- names -----------------------------------------------------------------------------------

    def link(
        self, part: Path, study_instance_uid: str, names: Sequence[str], *, place: Place = Place.INCOMING
    ) -> Path:
        """Do what `name` does, with Paths."""
        return Path(self.name(str(part), study_instance_uid, names, place=place))

    def name(
        self, part: str, study_instance_uid: str, names: Sequence[str], *, place: Place = Place.INCOMING
    ) -> str:
        """Link `part` under the first of `names` that is free in the study's folder; return the new path.

        If all are taken, the last one with a random part is used.
        """
        folder = f"{self._root}/{place}/{study_instance_uid}"
        for name in (*names, None):
            target = f"{folder}/{name or _unique(names[-1])}"
            try:
                self._link(part, target, folder)
            except FileExistsError:
                continue
            except OSError as error:
                raise failure("link", target, error) from error
            return target
        raise SpoolError(f"no free name for {part} in {folder}")

    def _link(self, source: str, target: str, folder: str) -> None:
        while True:
            self._ensure_directory(folder)
            try:
                os.link(source, target)
            except FileNotFoundError:
                # The sweep has just removed the empty directory: make it again.
                self._trusted.pop(folder, None)
                if not _is_there(source):
                    raise
                continue
            return

    def _ensure_directory(self, folder: str) -> None:
        """Create `folder` and flush its entry, even if it exists: its creator may not have flushed it yet."""
        now = monotonic()
        if self._trusted.get(folder, 0.0) > now:
            return
        make_folder(Path(folder))
        flush_directory(Path(folder).parent)  # survives a power cut: the study's folder, before Success
        with self._lock:
            if len(self._trusted) > _MAX_TRUSTED:
                self._trusted.clear()
            self._trusted[folder] = now + DIRECTORY_TRUST_SECONDS

    # ---- look-ups --------------------------------------------------------------------------------

    def path(self, place: Place | str, study_instance_uid: str, file_name: str) -> Path:
        """Return the path of a file in `place`, whether or not it exists."""
        return self._folder(place, study_instance_uid) / file_name

    def _folder(self, place: Place | str, study_instance_uid: str) -> Path:
        """Return the folder of a study, which is kept: joining paths costs more than finding it."""
        key = (place, study_instance_uid)
        folder = self._folders.get(key)
        if folder is None:
            if len(self._folders) > _MAX_KEPT:
                self._folders.clear()
            folder = self._folders[key] = self.root / place / study_instance_uid
        return folder

    def find(self, place: Place, study_instance_uid: str, file_name: str) -> Path:
        """Return the path of the file: in `place`, which its row names, or else in another place.

        Raises:
            FileMissingError: no place has it.
        """
        for path in self.find_all(place, study_instance_uid, file_name):
            return path
        raise FileMissingError(f"no place under {self.root} holds {study_instance_uid}/{file_name}")

    def find_all(self, place: Place, study_instance_uid: str, file_name: str) -> Iterator[Path]:
        """Yield every file of that name, the one in `place` first; more than one is rare."""
        for folder in (place, *(other for other in _FOLDERS if other != place)):
            # as text: a delivery looks in each folder, and most have no such file
            if _is_there(self._text(folder, study_instance_uid, file_name)):
                yield self.path(folder, study_instance_uid, file_name)

    # ---- moves -----------------------------------------------------------------------------------

    def move(
        self, place: Place, study_instance_uid: str, file_name: str, *, was: Place | None = None
    ) -> bool:
        """Move the file to `place` from the place where it `was`; return False if no place has it.

        If the file is not there, all other places are tried. In those, a file with a second link is not
        moved: it is another version that is being received under the same name.
        """
        target = self._text(place, study_instance_uid, file_name)
        expected = None
        if was is not None:
            expected = self._text(was, study_instance_uid, file_name)
            if self._moved(expected, target):  # nearly always; also if there is a file at `target` already
                return True
        try:
            if _is_there(target):
                return True
        except OSError as error:
            raise failure("stat", target, error) from error
        elsewhere = (self._text(other, study_instance_uid, file_name) for other in _FOLDERS)
        return any(self._moved(source, target, only_link=True) for source in elsewhere if source != expected)

    def _text(self, place: Place | str, study_instance_uid: str, file_name: str) -> str:
        """Return the path of a file as text, whether or not it exists."""
        return f"{self._root}/{place}/{study_instance_uid}/{file_name}"

    def _moved(self, source: str, target: str, *, only_link: bool = False) -> bool:
        """Move a file; return False if it is not there. With `only_link` it must have no second link."""
        try:
            if only_link and os.stat(source).st_nlink > 1:  # noqa: PTH116  no Path, see above
                return False
            self._put(source, target)  # False: another process has moved it already
        except (FileMissingError, FileNotFoundError):
            return False
        except OSError as error:
            raise failure("move", source, error) from error
        return True

    def put(self, source: Path, target: Path) -> bool:
        """Move `source` to `target`; return False, and move nothing, if there is a file at `target`.

        Raises:
            FileMissingError: there is no `source`.
        """
        return self._put(str(source), str(target))

    def _put(self, source: str, target: str) -> bool:
        try:
            self._link(source, target, target.rpartition("/")[0])
            with suppress(FileNotFoundError):
                os.unlink(source)  # noqa: PTH108  no Path, see above
        except FileExistsError:
            return False
        except FileNotFoundError as error:
            raise FileMissingError(f"{source} is not there") from error
        except OSError as error:
            raise failure("move", source, error) from error
        return True

    def remove(self, place: Place, study_instance_uid: str, file_name: str) -> None:
        """Remove the file from `place` only: a newer file may have the same name in another place."""
        path = self.path(place, study_instance_uid, file_name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise failure("remove", path, error) from error


def _is_there(path: str) -> bool:
    """Tell whether there is a file; an error that says something else is raised."""
    try:
        os.stat(path)  # noqa: PTH116  no Path, see above
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def is_same_file(path: Path, other: Path) -> bool:
    """Tell whether both paths are links to one file."""
    with suppress(FileNotFoundError):
        return path.samefile(other)
    return False


def _unique(name: str) -> str:
    return f"{name.removesuffix('.dcm')}.{uuid4().hex[:8]}.dcm"
