"""Real peers in both directions: DCMTK and pynetdicom, byte for byte where the peer allows it (G3)."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pynetdicom
import pytest
from pydicom.data import get_testdata_file
from pynetdicom import evt
from support.dicom_peers import (
    CT,
    CT_IMPLICIT,
    DEADLINE_SECONDS,
    ECHO,
    EXPLICIT,
    IMPLICIT,
    Edge,
    dcmtk,
    edge,
    sendable_files,
)
from support.launcher import Processes
from support.synthetic_instances import Instance
from support.waiting import wait_until

from gateway.dicom.association import PeerAddress
from gateway.dicom.contexts import ProposedContext
from gateway.dicom.dataset.part10 import preamble_and_file_meta, read_file_meta
from gateway.dicom.requestor import associate
from gateway.errors import AssociationRejectedError, ContextNotAcceptedError, ContextNotProposedError
from gateway.lab.layout import choose_ports

CT_FILE = str(get_testdata_file("CT_small.dcm"))


def run(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run one of DCMTK's programs to its end."""
    return subprocess.run([dcmtk(program), *words], capture_output=True, text=True, timeout=60, check=False)


def ct_data_set() -> bytes:
    """Return the data set of CT_small.dcm, unchanged."""
    raw = Path(CT_FILE).read_bytes()
    return raw[read_file_meta(raw).data_set_offset :]


# ---- DCMTK to us -------------------------------------------------------------------------------------


def test_echoscu_is_answered(running: Edge) -> None:
    """C-ECHO, and again with 128 contexts proposed."""
    for words in ([], ["--propose-pc", "128", "--propose-ts", "3"], ["--repeat", "20"]):
        done = run("echoscu", *words, "127.0.0.1", str(running.port))
        assert done.returncode == 0, done.stderr
    running.wait_ended()
    assert running.policy.outcomes == [("released", None)] * 3


def test_echoscu_may_abort(running: Edge) -> None:
    """Its A-ABORT ends the association."""
    run("echoscu", "--abort", "127.0.0.1", str(running.port))
    running.wait_ended()
    assert [word for word, _ in running.policy.outcomes] == ["aborted_by_peer"]


@pytest.mark.parametrize("max_pdu", ["4096", "16384", "131072"])
def test_storescu_stores(running: Edge, max_pdu: str) -> None:
    """Small and large PDUs are used, several times; every element arrives."""
    done = run(
        "storescu", "--max-pdu", max_pdu, "--max-send-pdu", max_pdu, "--propose-little", "--repeat", "3",
        "127.0.0.1", str(running.port), CT_FILE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    running.wait_ended()
    assert running.policy.outcomes == [("released", None)]
    assert len(running.policy.received) == 3
    original = pydicom.dcmread(CT_FILE)
    for received in running.policy.received:
        assert received.finished
        assert received.request.transfer_syntax_uid == EXPLICIT
        assert received.request.sop_instance_uid == original.SOPInstanceUID
        assert original.PixelData in received.data


PROPOSALS = {
    "--propose-uncompr": EXPLICIT,
    "--propose-little": EXPLICIT,
    "--propose-big": EXPLICIT,
    "--propose-implicit": IMPLICIT,
    "--propose-deflated": "1.2.840.10008.1.2.1.99",
}
"""DCMTK's option for an uncompressed file, and the transfer syntax that it then sends."""


@pytest.mark.parametrize("option", PROPOSALS)
def test_every_transfer_syntax_of_storescu_is_accepted(running: Edge, option: str) -> None:
    """Required ones and others."""
    done = run("storescu", option, "--required", "127.0.0.1", str(running.port), CT_FILE)
    assert done.returncode == 0, done.stderr
    assert running.policy.received[0].finished
    assert running.policy.received[0].request.transfer_syntax_uid == PROPOSALS[option]


COMPRESSED = {
    "--propose-lossless": "1.2.840.10008.1.2.4.70",
    "--propose-jpeg8": "1.2.840.10008.1.2.4.50",
    "--propose-jpeg12": "1.2.840.10008.1.2.4.51",
    "--propose-jls-lossless": "1.2.840.10008.1.2.4.80",
    "--propose-jls-lossy": "1.2.840.10008.1.2.4.81",
    "--propose-j2k-lossless": "1.2.840.10008.1.2.4.90",
    "--propose-j2k-lossy": "1.2.840.10008.1.2.4.91",
    "--propose-mpeg2": "1.2.840.10008.1.2.4.100",
    "--propose-mpeg2-high": "1.2.840.10008.1.2.4.101",
    "--propose-mpeg4": "1.2.840.10008.1.2.4.102",
    "--propose-mpeg4-bd": "1.2.840.10008.1.2.4.103",
    "--propose-mpeg4-2-2d": "1.2.840.10008.1.2.4.104",
    "--propose-mpeg4-2-3d": "1.2.840.10008.1.2.4.105",
    "--propose-mpeg4-2-st": "1.2.840.10008.1.2.4.106",
    "--propose-hevc": "1.2.840.10008.1.2.4.107",
    "--propose-hevc10": "1.2.840.10008.1.2.4.108",
    "--propose-rle": "1.2.840.10008.1.2.5",
}
"""Transfer syntaxes that DCMTK sends only as they are in the file: PS3.6 §A, Table A-1."""


@pytest.mark.parametrize("option", COMPRESSED)
def test_storescu_sends_every_compression(running: Edge, option: str, tmp_path: Path) -> None:
    """An encapsulated file arrives in its transfer syntax with unchanged fragments."""
    instance, fragment = Instance(payload=b""), bytes(range(256)) * 40
    items = b"\xfe\xff\x00\xe0\0\0\0\0" + b"\xfe\xff\x00\xe0" + len(fragment).to_bytes(4, "little")
    pixels = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + items + fragment + b"\xfe\xff\xdd\xe0\0\0\0\0"
    meta = preamble_and_file_meta(CT, instance.sop_instance_uid, COMPRESSED[option], source_ae_title="US")
    file = tmp_path / "compressed.dcm"
    file.write_bytes(meta + instance.data_set()[:-12] + pixels)
    done = run("storescu", option, "--required", "127.0.0.1", str(running.port), str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    [received] = running.policy.received
    assert received.request.transfer_syntax_uid == COMPRESSED[option]
    assert fragment in received.data


def test_an_abort_of_storescu_loses_nothing(running: Edge) -> None:
    """It aborts instead of releasing: acknowledged instances are kept."""
    done = run("storescu", "--abort", "127.0.0.1", str(running.port), CT_FILE)
    assert done.returncode == 0, done.stderr
    running.wait_ended()
    assert running.policy.received[0].finished
    assert [word for word, _ in running.policy.outcomes] == ["aborted_by_peer"]


def test_storescu_gets_status_and_comment_of_a_refusal(running: Edge) -> None:
    """Both reach the sender."""
    running.policy.answer = lambda _: (0xA700, "no space")
    done = run("storescu", "-v", "127.0.0.1", str(running.port), CT_FILE)
    assert "Refused: OutOfResources" in done.stdout + done.stderr


def test_dcmsend_sends_a_folder(running: Edge, tmp_path: Path) -> None:
    """Many contexts in one association, and compressed instances without decoding."""
    files = [item for item in sendable_files() if item.path.stat().st_size < 1_000_000][:40]
    for number, item in enumerate(files):
        (tmp_path / f"{number}.dcm").symlink_to(item.path)
    done = run(
        "dcmsend", "--scan-directories", "--no-uid-checks", "--decompress-never", "--no-halt",
        "127.0.0.1", str(running.port), str(tmp_path),
    )  # fmt: skip
    running.wait_ended()
    assert len(running.policy.received) > 20, done.stderr
    assert all(received.finished for received in running.policy.received)
    assert all(outcome == ("released", None) for outcome in running.policy.outcomes)


# ---- us to DCMTK -------------------------------------------------------------------------------------


@pytest.fixture
def storescp(processes: Processes, tmp_path: Path) -> tuple[PeerAddress, Path]:
    """Yield DCMTK's storescp, which keeps what it gets bit by bit."""
    port = choose_ports(well_known=False).edge
    folder = tmp_path / "stored"
    folder.mkdir()
    words = [
        dcmtk("storescp"),
        "--bit-preserving",
        "-od",
        str(folder),
        "+xa",
        "--max-pdu",
        "131072",
        str(port),
    ]
    processes.start(*words)
    peer = PeerAddress("127.0.0.1", port, "STORESCP", timeout_seconds=10, connect_timeout_seconds=5)
    wait_until(lambda: _echoes(peer), DEADLINE_SECONDS, "storescp to answer")
    return peer, folder


def _echoes(peer: PeerAddress) -> bool:
    with (
        contextlib.suppress(OSError, Exception),
        associate(peer, calling_ae_title="US", contexts=[ECHO]) as it,
    ):
        return it.echo() == 0
    return False


def test_storescp_gets_the_bytes(storescp: tuple[PeerAddress, Path]) -> None:
    """G3: the file that DCMTK writes equals what we read, byte for byte."""
    peer, folder = storescp
    context = ProposedContext(CT, EXPLICIT)
    data = ct_data_set()
    with associate(peer, calling_ae_title="US", contexts=[ECHO, context]) as association:
        assert association.accepted == {ECHO, context}
        for number in range(20):
            assert association.store(context, f"1.2.{number}", [data]) == (0, "")
        assert association.echo() == 0
        assert association.is_alive()
    files = list(folder.iterdir())
    assert len(files) == 20
    for file in files:
        raw = file.read_bytes()
        assert raw[read_file_meta(raw).data_set_offset :] == data


# ---- pynetdicom --------------------------------------------------------------------------------------


def test_pynetdicom_as_requestor(running: Edge) -> None:
    """C-ECHO and C-STORE of stock pynetdicom get our answers."""
    running.policy.answer = lambda _: (0xB000, "")
    entity = pynetdicom.AE(ae_title="PYNETDICOM")
    entity.add_requested_context("1.2.840.10008.1.1")
    entity.add_requested_context(CT, [EXPLICIT])
    association = entity.associate("127.0.0.1", running.port)
    assert association.is_established
    assert association.send_c_echo().Status == 0
    assert association.send_c_store(pydicom.dcmread(CT_FILE)).Status == 0xB000
    association.release()
    running.wait_ended()
    assert running.policy.outcomes == [("released", None)]


@contextlib.contextmanager
def pynetdicom_scp(handler: Any) -> Iterator[PeerAddress]:
    """Stock pynetdicom as acceptor of CT in implicit little endian, for the AE title RIGHT only."""
    entity = pynetdicom.AE(ae_title="PYNETDICOM")
    entity.require_calling_aet = ["RIGHT"]
    entity.add_supported_context("1.2.840.10008.1.1")
    entity.add_supported_context(CT, [IMPLICIT])
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, handler)])
    assert server is not None
    assert server.socket is not None
    try:
        yield PeerAddress("127.0.0.1", server.socket.getsockname()[1], "PYNETDICOM", 10, 5)
    finally:
        server.shutdown()


def test_pynetdicom_as_acceptor() -> None:
    """Its status, refused contexts and rejection are distinguished."""
    got: list[bytes] = []

    def handle(event: Any) -> int:
        got.append(event.request.DataSet.getvalue())
        return 0xA700 if len(got) == 2 else 0

    explicit = ProposedContext(CT, EXPLICIT)
    with pynetdicom_scp(handle) as peer:
        with pytest.raises(AssociationRejectedError) as rejected:
            associate(peer, calling_ae_title="WRONG", contexts=[ECHO])
        assert (rejected.value.result, rejected.value.source, rejected.value.reason) == (1, 1, 3)
        with associate(peer, calling_ae_title="RIGHT", contexts=[ECHO, CT_IMPLICIT, explicit]) as association:
            assert association.proposed == {ECHO, CT_IMPLICIT, explicit}
            assert association.accepted == {ECHO, CT_IMPLICIT}
            with pytest.raises(ContextNotAcceptedError):
                association.store(explicit, "1.2.3", [b""])
            with pytest.raises(ContextNotProposedError):
                association.store(ProposedContext("1.2.3", IMPLICIT), "1.2.3", [b""])
            assert [association.store(CT_IMPLICIT, "1.2.3", [bytes(100_000)])[0] for _ in range(3)] == [
                0, 0xA700, 0,
            ]  # fmt: skip
    assert got == [bytes(100_000)] * 3


# ---- ourselves ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_pdu_bytes", [0, 300, 16_384, 131_072])
def test_every_sendable_file_arrives_byte_for_byte(max_pdu_bytes: int) -> None:
    """G3: all of pydicom's test files, in their own transfer syntax, for every maximum length."""
    files = sendable_files()
    with edge(max_pdu_bytes=max_pdu_bytes) as it:
        contexts = list({item.context for item in files})
        with associate(it.peer, calling_ae_title="US", contexts=contexts) as association:
            assert association.accepted == set(contexts)
            for item in files:
                with item.path.open("rb", buffering=0) as file:
                    file.seek(item.offset)
                    assert association.store(item.context, item.sop_instance_uid, file) == (0, "")
        it.wait_ended()
        assert it.policy.outcomes == [("released", None)]
        for item, received in zip(files, it.policy.received, strict=True):
            assert received.data == item.data_set()
            assert received.request.transfer_syntax_uid == item.context.transfer_syntax_uid
            assert received.request.sop_class_uid == item.context.sop_class_uid
            assert received.request.sop_instance_uid == item.sop_instance_uid


def test_associations_side_by_side(running: Edge) -> None:
    """Eight at once, each with its own instances, and none is mixed up."""

    def send(number: int) -> None:
        with associate(running.peer, calling_ae_title=f"US{number}", contexts=[CT_IMPLICIT]) as association:
            for _ in range(20):
                assert association.store(CT_IMPLICIT, f"1.{number}", [bytes([number]) * 50_001])[0] == 0

    threads = [threading.Thread(target=send, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(running.policy.received) == 160
    for received in running.policy.received:
        number = int(received.request.sop_instance_uid.removeprefix("1."))
        assert received.data == bytes([number]) * 50_001


def test_a_store_is_not_delayed_by_nagle(running: Edge) -> None:
    """The last segment of a small instance never waits for a delayed ACK, which comes after 40 ms.

    It would delay nearly every store. A busy machine delays some of them, so only the fastest quarter counts.
    """
    seconds = []
    with associate(running.peer, calling_ae_title="US", contexts=[CT_IMPLICIT]) as association:
        for _ in range(100):
            began = time.monotonic()
            association.store(CT_IMPLICIT, "1.2.3", [bytes(70_001)])
            seconds.append(time.monotonic() - began)
    assert sorted(seconds)[25] < 0.04
