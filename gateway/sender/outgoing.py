"""One instance that is ready to be sent: a Part 10 file and the UIDs that the command set needs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.dicom.contexts import ProposedContext

PIECE_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Outgoing:
    """`data_set_offset` is where the data set begins in `path`, `size` how many bytes it has.

    `origin` is the file that the user named, where `path` is a rewritten copy of it.
    """

    path: Path
    origin: Path
    data_set_offset: int
    size: int
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str

    @property
    def context(self) -> ProposedContext:
        """What has to be proposed for it: its SOP Class in its own transfer syntax."""
        return ProposedContext(self.sop_class_uid, self.transfer_syntax_uid)

    def data_set(self) -> Iterator[bytes]:
        """The encoded data set as it is in the file, in pieces.

        Raises:
            OSError: the file went away or cannot be read.
        """
        with self.path.open("rb") as file:
            file.seek(self.data_set_offset)
            while piece := file.read(PIECE_BYTES):
                yield piece
