"""Send synthetic instances as a modality does, also such as an edge must refuse."""

import ssl
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    MRImageStorage,
    generate_uid,
)
from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

_config.STORE_SEND_CHUNKED_DATASET = True
JPEG = JPEGBaseline8Bit
PRIVATE_SOP_CLASS = UID("1.2.826.0.1.3680043.8.498.99.1")


class NotAssociatedError(Exception):
    """The peer gave no association."""


class AssociationLostError(RuntimeError):
    """The association ended before all instances were sent; `last` is the UID of the last one that was."""

    def __init__(self, text: str, last: str) -> None:
        super().__init__(text)
        self.last = last


def synthetic(
    *,
    modality: str = "CT",
    sop_class: UID | None = None,
    syntax: UID = ExplicitVRLittleEndian,
    study: str = "",
) -> Dataset:
    """Return a small instance of nobody."""
    made = Dataset()
    made.SOPClassUID = sop_class or (MRImageStorage if modality == "MR" else CTImageStorage)
    made.SOPInstanceUID = generate_uid()
    made.StudyInstanceUID = study or generate_uid()
    made.SeriesInstanceUID = generate_uid()
    made.PatientName, made.PatientID, made.Modality = "Edge^Broken", "EDGE0001", modality
    made.SeriesDescription, made.BodyPartExamined = "SYNTHETIC", "CHEST"
    made.Rows = made.Columns = 32
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    made.PixelData = encapsulate([b"\xff\xd8\xff\xd9" * 8]) if syntax == JPEG else bytes(32 * 32)
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = syntax == JPEG
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made


def associate(
    port: int,
    contexts: Iterable[tuple[UID, UID]],
    *,
    calling: str = "CT1",
    called: str = "MINI_EDGE",
    tls: ssl.SSLContext | None = None,
) -> Association:
    """Open an association, or raise NotAssociatedError."""
    entity = AE(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = 15
    for sop_class, syntax in dict.fromkeys(contexts):
        entity.add_requested_context(sop_class, syntax)
    tls_args = (tls, "127.0.0.1") if tls else None
    opened = entity.associate("127.0.0.1", port, ae_title=called, tls_args=tls_args)
    if not opened.is_established:
        raise NotAssociatedError(f"{calling} got no association with {called}")
    return opened


def send(
    port: int,
    instances: Iterable[Dataset],
    *,
    calling: str = "CT1",
    called: str = "MINI_EDGE",
    tls: ssl.SSLContext | None = None,
) -> list[int]:
    """Send instances on one association; return their statuses (-1: no answer).

    Raises:
        AssociationLostError: it ended before the last one was sent.
    """
    waiting = list(instances)
    contexts = [(UID(one.SOPClassUID), UID(one.file_meta.TransferSyntaxUID)) for one in waiting]
    opened = associate(port, contexts, calling=calling, called=called, tls=tls)
    statuses: list[int] = []
    try:
        for one in waiting:
            if not opened.is_established:
                text = f"the association ended after {len(statuses)} of {len(waiting)}: {statuses[-3:]}"
                raise AssociationLostError(text, str(waiting[len(statuses) - 1].SOPInstanceUID))
            statuses.append(opened.send_c_store(one).get("Status", -1))
    finally:
        opened.release()
    return statuses


def send_bytes(port: int, part10: bytes, *, calling: str = "CT1") -> int:
    """Send the data set of a Part 10 file as it stands, right or wrong; return the status."""
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(part10)
        file.flush()
        opened = associate(port, [(CTImageStorage, ExplicitVRLittleEndian)], calling=calling)
        try:
            return int(opened.send_c_store(Path(file.name)).get("Status", -1))
        finally:
            opened.release()


def propose(port: int, contexts: Iterable[tuple[UID, UID]], *, calling: str = "CT1") -> None:
    """Ask for an association with these contexts, and end it, whatever the answer."""
    try:
        associate(port, [*contexts], calling=calling).release()
    except NotAssociatedError:
        return


def hold(port: int, count: int, *, calling: str = "CT1", called: str = "MINI_EDGE") -> list[Association]:
    """Open that many associations and keep them; wait while others have them."""
    held: list[Association] = []
    end = time.monotonic() + 20
    while len(held) < count:
        try:
            contexts = [(Verification, ExplicitVRLittleEndian)]
            held.append(associate(port, contexts, calling=calling, called=called))
        except NotAssociatedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
    return held


@contextmanager
def traffic(port: int, per_second: float, *, calling: str = "CT1") -> Iterator[None]:
    """Send instances steadily, whatever becomes of them."""
    ended = threading.Event()

    count = max(1, round(per_second))

    def run() -> None:
        while not ended.wait(count / per_second):
            try:
                send(port, [synthetic() for _ in range(count)], calling=calling)
            except (NotAssociatedError, AssociationLostError, OSError):
                continue

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)
