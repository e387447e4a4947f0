"""`python -m proof.edges.peer`: a Storage SCP that does what its options say, for good and for bad.

It stores nothing. With `--store result` it is a worker: it sends a result for each instance to the edge.
"""

import argparse
import queue
import ssl
import threading
import time

from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from proof.edges.sender import synthetic

MODES = ("ok", "hang", "slow", "status", "abort", "other-uid", "result")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="proof.edges.peer")
    parser.add_argument("title")
    parser.add_argument("port", type=int)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--store", choices=MODES, default="ok")
    parser.add_argument("--status", type=lambda text: int(text, 16), default=0, help="with --store status")
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="how long each instance, or its result, takes"
    )
    parser.add_argument("--associations", type=int, default=50)
    parser.add_argument("--only-sop-class", action="append", default=[])
    parser.add_argument(
        "--syntax", action="append", default=[], help="transfer syntaxes; default uncompressed and JPEG"
    )
    parser.add_argument(
        "--callers", nargs="*", default=[], help="calling AE titles that are let in; default all"
    )
    parser.add_argument("--check-called", action="store_true")
    parser.add_argument("--edge", type=int, default=0, help="port of the edge, for results")
    parser.add_argument("--result-title", default="", help="with --store result: call under this title")
    parser.add_argument(
        "--result-unknown", action="store_true", help="results name instances that nobody sent"
    )
    parser.add_argument(
        "--result-copies-uid", action="store_true", help="results have the SOP Instance UID of the image"
    )
    parser.add_argument("--result-sop-class", default=str(CTImageStorage))
    parser.add_argument("--certificate", default="")
    parser.add_argument("--key", default="")
    parser.add_argument("--client-ca", default="", help="demand a certificate that this CA signed")
    parser.add_argument("--old-tls", action="store_true", help="speak TLS 1.1 at most")
    return parser.parse_args()


class Results:
    """Sends results, one after the other, beside the Storage SCP."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Begin with none."""
        self._options = options
        self._sources: queue.Queue[Dataset] = queue.Queue()
        threading.Thread(target=self._run, daemon=True).start()

    def of(self, source: Dataset) -> None:
        """Send a result of this instance soon."""
        self._sources.put(source)

    def _run(self) -> None:
        while True:
            source = self._sources.get()
            time.sleep(self._options.seconds)
            for _ in range(5):
                if self._send(source):
                    break
                time.sleep(1.0)

    def _send(self, source: Dataset) -> bool:
        options = self._options
        entity = AE(options.result_title or options.title)
        sop_class = UID(options.result_sop_class)
        entity.add_requested_context(sop_class, ExplicitVRLittleEndian)
        association = entity.associate("127.0.0.1", options.edge, ae_title="MINI_EDGE")
        if not association.is_established:
            return False
        result = synthetic(
            sop_class=sop_class, study=generate_uid() if options.result_unknown else source.StudyInstanceUID
        )
        result.SOPInstanceUID = (
            source.SOPInstanceUID
            if options.result_copies_uid
            else generate_uid(entropy_srcs=[source.SOPInstanceUID, options.title])
        )
        result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
        result.SeriesDescription = "AI_RESULT"
        reference = Dataset()
        reference.ReferencedSOPClassUID = source.SOPClassUID
        reference.ReferencedSOPInstanceUID = (
            generate_uid() if options.result_unknown else source.SOPInstanceUID
        )
        result.SourceImageSequence = [reference]
        status = association.send_c_store(result)
        association.release()
        return bool("Status" in status and status.Status == 0)


class Store:
    """Answers C-STOREs as `--store` says."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Begin with none."""
        self._options = options
        self._results = Results(options) if options.store == "result" else None

    def __call__(self, event: evt.Event) -> int | Dataset:
        """Answer one."""
        options = self._options
        if options.store == "hang":
            time.sleep(100_000)
        if options.store == "slow":
            time.sleep(options.seconds)
        if options.store == "abort":
            event.assoc.abort()
        if options.store == "other-uid":
            answer = Dataset()
            answer.Status, answer.AffectedSOPInstanceUID = 0, generate_uid()
            return answer
        if self._results is not None:
            source = event.dataset
            source.file_meta = event.file_meta
            self._results.of(source)
        return int(options.status)


def _tls(options: argparse.Namespace) -> ssl.SSLContext:
    """Return the context of a port with TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate, options.key)
    if options.client_ca:
        context.load_verify_locations(options.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    if options.old_tls:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def main() -> None:
    """Serve until a signal ends the process."""
    options = _arguments()
    entity = AE(options.title)
    entity.maximum_associations = options.associations
    if options.callers:
        entity.require_calling_aet = options.callers
    entity.require_called_aet = options.check_called
    entity.network_timeout = None
    entity.add_supported_context(Verification)
    uncompressed = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    syntaxes = [UID(text) for text in options.syntax] or [*uncompressed, UID("1.2.840.10008.1.2.4.50")]
    classes = options.only_sop_class or [
        context.abstract_syntax for context in AllStoragePresentationContexts
    ]
    for sop_class in classes:
        entity.add_supported_context(sop_class, syntaxes)
    handler = Store(options)
    context = _tls(options) if options.certificate else None
    address = (options.address, options.port)
    entity.start_server(address, block=True, evt_handlers=[(evt.EVT_C_STORE, handler)], ssl_context=context)


if __name__ == "__main__":
    main()
