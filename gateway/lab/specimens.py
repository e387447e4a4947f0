"""The instances of the demo: two generated studies, and the sendable test files of pydicom.

Many of those files share UIDs, so each gets new ones, and a study of its own. If the process dies, files
remain in the given folder.
"""

from collections.abc import Iterator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from gateway.errors import LabError
from gateway.sender.generate import Study
from gateway.sender.outgoing import Outgoing
from gateway.sender.prepare import SendRequest, prepare
from gateway.sender.rewrite import Edits

CT_INSTANCES = 20
MR_INSTANCES = 10
CT_STUDY = "generated CT study"
MR_STUDY = "generated MR study"


def specimens(folder: Path) -> Iterator[tuple[str, Outgoing]]:
    """Yield the name of each instance and the instance, ready to be sent; those of pydicom first."""
    when = datetime.now().astimezone()
    files = SendRequest([_files()], Edits(new_uids=True, per_file=True), [])
    for piece in prepare(files, folder):
        if isinstance(piece, Outgoing):  # the others cannot be sent: they are no images, or lack UIDs
            yield piece.origin.name, piece
    for name, modality, count in ((MR_STUDY, "MR", MR_INSTANCES), (CT_STUDY, "CT", CT_INSTANCES)):
        for piece in prepare(SendRequest([], Edits(), [Study(count, when, modality)]), folder):
            if isinstance(piece, Outgoing):
                yield name, piece


def _files() -> Path:
    spec = find_spec("pydicom")
    if spec is None or spec.origin is None:
        raise LabError("pydicom is not installed: pip install mini-pacs-edge")
    return Path(spec.origin).parent / "data" / "test_files"
