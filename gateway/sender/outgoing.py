"""One instance to send: a Part 10 file, and the UIDs that the command set needs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.dicom.contexts import ProposedContext

CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An instance to send; its data set has `size` bytes from `data_set_offset` of the file `path`.

    `origin` is the file that the user named; `path` may be a rewritten copy of it.
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
        """The presentation context to propose: its SOP Class in its own transfer syntax."""
        return ProposedContext(self.sop_class_uid, self.transfer_syntax_uid)

    def data_set(self) -> Iterator[bytes]:
        """Yield the encoded data set unchanged, in chunks.

        Raises:
            OSError: the file was removed or cannot be read.
        """
        with self.path.open("rb") as file:
            file.seek(self.data_set_offset)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
