"""The Storage SCP of the worker: answer C-ECHO and C-STORE, and put received instances into a queue.

Every Storage SOP Class is accepted, in the transfer syntax that is proposed first. The data set is written to
a temporary file while it arrives; the open and unlinked file waits in a bounded queue. A worker of series
keeps the file and gives it to the collector. If the queue or the collector is full, the status is 0xA700, and
the edge tries again later.
"""

import os
import queue
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from pynetdicom import AE, _config, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from worker_app import log, source
from worker_app.collecting import Collector
from worker_app.settings import ResultUnit, Settings
from worker_app.waiting import WaitingInstance, Work

MAX_WAITING = 256
MAX_ASSOCIATIONS = 64
MAX_PDU_BYTES = 131_072
NETWORK_TIMEOUT_SECONDS = 120.0
"""Must exceed the pause between two instances on an association that the edge keeps open."""

OUT_OF_RESOURCES = 0xA700  # PS3.4 §B.2.3, Table B.2-1


@dataclass(frozen=True, slots=True)
class Inbox:
    """Where accepted instances go: alone into `waiting`, or to the collector of series."""

    waiting: queue.Queue[Work]
    collector: Collector


def start(settings: Settings, inbox: Inbox) -> ThreadedAssociationServer:
    """Start to listen, and return the server; accepted instances go to `inbox`.

    Raises:
        OSError: the port is in use, or the address is not one of this host.
    """
    # Global options of pynetdicom: accept every abstract syntax as a Storage SOP Class; write data sets to
    # files.
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    _config.STORE_RECV_CHUNKED_DATASET = True

    def on_store(event: evt.Event) -> int:
        return _answer(event, settings, inbox)

    def on_close(event: evt.Event) -> None:
        inbox.collector.end(event.assoc)

    entity = AE(settings.ae_title)
    entity.require_called_aet = True
    entity.maximum_associations = MAX_ASSOCIATIONS
    entity.maximum_pdu_size = MAX_PDU_BYTES
    entity.network_timeout = NETWORK_TIMEOUT_SECONDS
    entity.add_supported_context(Verification)
    server = entity.start_server(
        (settings.bind_address, settings.port),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, on_store), (evt.EVT_CONN_CLOSE, on_close)],
    )
    assert isinstance(server, ThreadedAssociationServer)
    return server


def _answer(event: evt.Event, settings: Settings, inbox: Inbox) -> int:
    assert isinstance(event.request, C_STORE)
    sop_instance_uid = str(event.request.AffectedSOPInstanceUID)
    status = settings.status
    if status == 0 and settings.returns_results:
        keep = _keep_for_series if settings.unit is ResultUnit.SERIES else _keep
        status = 0 if keep(event, sop_instance_uid, settings, inbox) else OUT_OF_RESOURCES
    log.write(
        "receive",
        worker=settings.ae_title,
        outcome="accepted" if status == 0 else "refused",
        sop_instance_uid=sop_instance_uid,
        calling_ae_title=event.assoc.requestor.ae_title,
        status=status,
    )
    return status


def _keep(event: evt.Event, sop_instance_uid: str, settings: Settings, inbox: Inbox) -> bool:
    # pynetdicom unlinks the file after this handler; the open descriptor keeps its content. `fdopen`
    # gives the file object no name: pydicom would use the name, and the file may be unlinked by then.
    file = os.fdopen(os.open(event.dataset_path, os.O_RDONLY), "rb")
    received = WaitingInstance(str(event.context.transfer_syntax), sop_instance_uid, file=file)
    try:
        inbox.waiting.put_nowait(Work((received,), monotonic() + settings.delay_seconds))
    except queue.Full:
        received.discard()
        return False
    return True


def _keep_for_series(event: evt.Event, sop_instance_uid: str, _settings: Settings, inbox: Inbox) -> bool:
    if not inbox.collector.has_room():
        return False
    path = Path(tempfile.gettempdir()) / f"{uuid.uuid4().hex}.collected"
    path.hardlink_to(event.dataset_path)  # pynetdicom unlinks its own name after this handler
    received = WaitingInstance(str(event.context.transfer_syntax), sop_instance_uid, path=path)
    try:
        with received.opened() as file:
            series = source.read(file, received.transfer_syntax_uid).series_instance_uid
    except source.UnreadableError:
        series = sop_instance_uid  # a series of its own, so that its failure is logged
    inbox.collector.add(series, received, event.assoc)
    return True
