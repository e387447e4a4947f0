"""The Storage SCP of the worker: answer C-ECHO and C-STORE, and put received instances into a queue.

Every Storage SOP Class is accepted, in the transfer syntax that is proposed first. The data set is written to
a temporary file while it arrives; the open and unlinked file waits in a bounded queue. If the queue is full,
the status is 0xA700, and the edge tries again later.
"""

import os
import queue
from time import monotonic

from pynetdicom import AE, _config, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from worker_app import log
from worker_app.returning import WaitingInstance
from worker_app.settings import Settings

MAX_WAITING = 256
MAX_ASSOCIATIONS = 64
MAX_PDU_BYTES = 131_072
NETWORK_TIMEOUT_SECONDS = 120.0
"""Must exceed the pause between two instances on an association that the edge keeps open."""

OUT_OF_RESOURCES = 0xA700  # PS3.4 §B.2.3, Table B.2-1


def start(settings: Settings, waiting: queue.Queue[WaitingInstance]) -> ThreadedAssociationServer:
    """Start to listen, and return the server; accepted instances are put into `waiting`.

    Raises:
        OSError: the port is in use, or the address is not one of this host.
    """
    # Global options of pynetdicom: accept every abstract syntax as a Storage SOP Class; write data sets to
    # files.
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    _config.STORE_RECV_CHUNKED_DATASET = True

    def on_store(event: evt.Event) -> int:
        return _answer(event, settings, waiting)

    entity = AE(settings.ae_title)
    entity.require_called_aet = True
    entity.maximum_associations = MAX_ASSOCIATIONS
    entity.maximum_pdu_size = MAX_PDU_BYTES
    entity.network_timeout = NETWORK_TIMEOUT_SECONDS
    entity.add_supported_context(Verification)
    server = entity.start_server(
        (settings.bind_address, settings.port), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)]
    )
    assert isinstance(server, ThreadedAssociationServer)
    return server


def _answer(event: evt.Event, settings: Settings, waiting: queue.Queue[WaitingInstance]) -> int:
    assert isinstance(event.request, C_STORE)
    sop_instance_uid = str(event.request.AffectedSOPInstanceUID)
    status = settings.status
    if status == 0 and settings.returns_results:
        # pynetdicom unlinks the file after this handler; the open descriptor keeps its content. `fdopen`
        # gives the file object no name: pydicom would use the name, and the file may be unlinked by then.
        file = os.fdopen(os.open(event.dataset_path, os.O_RDONLY), "rb")
        received = WaitingInstance(
            file=file,
            transfer_syntax_uid=str(event.context.transfer_syntax),
            sop_instance_uid=sop_instance_uid,
            due=monotonic() + settings.delay_seconds,
        )
        try:
            waiting.put_nowait(received)
        except queue.Full:
            file.close()
            status = OUT_OF_RESOURCES
    log.write(
        "receive",
        worker=settings.ae_title,
        outcome="accepted" if status == 0 else "refused",
        sop_instance_uid=sop_instance_uid,
        calling_ae_title=event.assoc.requestor.ae_title,
        status=status,
    )
    return status
