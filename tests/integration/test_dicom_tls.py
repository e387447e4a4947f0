"""TLS on both sides: DCMTK with +tls, the edge itself, and peers without a trusted certificate."""

import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from support import certificates
from support.certificates import Certificates
from support.dicom_peers import CT, CT_IMPLICIT, DEADLINE_SECONDS, ECHO, EXPLICIT, Edge, dcmtk, edge, script
from support.launcher import Processes
from support.waiting import wait_until

from gateway import config
from gateway.dicom.association import PeerAddress
from gateway.dicom.contexts import ProposedContext
from gateway.dicom.dataset.part10 import read_file_meta
from gateway.dicom.requestor import associate
from gateway.dicom.tls import acceptor_context, requestor_context
from gateway.errors import AssociationBrokenError, ConfigurationError, PeerAwayError
from gateway.forward.peer import address_of
from gateway.lab import layout
from gateway.lab.layout import free_ports

CT_FILE = Path(str(get_testdata_file("CT_small.dcm")))


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return certificates, made once for the module, since openssl is slow."""
    return certificates.make(tmp_path_factory.mktemp("tls") / "certificates")


def acceptor_tls(certs: Certificates, *, mutual: bool = True) -> ssl.SSLContext:
    """Return the TLS context that `edge.tls` makes of them."""
    ca = certs.ca if mutual else None
    return acceptor_context(certs.edge.certificate, certs.edge.key, ca, where="edge.tls")


def requestor_tls(certs: Certificates, *, shows: bool = True) -> ssl.SSLContext:
    """Return the TLS context that a destination's `tls` makes of them."""
    own = (certs.sender.certificate, certs.sender.key) if shows else (None, None)
    return requestor_context(*own, certs.ca, check_host=True, where="tls")


@pytest.fixture
def secured(certs: Certificates) -> Iterator[Edge]:
    """Yield an acceptor that requires a certificate."""
    with edge(tls=acceptor_tls(certs), artim=2) as running:
        yield running


def peer(running: Edge, tls: ssl.SSLContext | None) -> PeerAddress:
    """Return that acceptor as a peer with `tls`."""
    return PeerAddress("127.0.0.1", running.port, "EDGE", 5, 5, tls)


def test_our_requestor_stores_to_our_acceptor(secured: Edge, certs: Certificates) -> None:
    """G3 over TLS: small and large data sets, many pieces in a row, and an orderly release."""
    data = bytes(range(256)) * 8192
    with associate(peer(secured, requestor_tls(certs)), calling_ae_title="US", contexts=[CT_IMPLICIT]) as it:
        for size in (0, 1, 4096, 300_001, len(data)):
            assert it.store(CT_IMPLICIT, f"1.{size}", [data[:size]]) == (0, "")
            assert it.is_alive()
    secured.wait_ended()
    assert [bytes(r.data) for r in secured.policy.received] == [
        data[:size] for size in (0, 1, 4096, 300_001, len(data))
    ]
    assert secured.policy.outcomes == [("released", None)]


def test_an_idle_requestor_sees_the_acceptor_stop(secured: Edge, certs: Certificates) -> None:
    """A graceful stop wakes a TLS read; the bytes of that moment do not count as a live association."""
    it = associate(peer(secured, requestor_tls(certs)), calling_ae_title="US", contexts=[ECHO])
    assert it.echo() == 0
    secured.acceptor.stop()
    secured.wait_ended()
    assert secured.policy.outcomes == [("stopped", None)]
    wait_until(lambda: not it.is_alive(), DEADLINE_SECONDS, "the requestor to see it")
    with pytest.raises(AssociationBrokenError):
        it.echo()


def test_a_stop_ends_a_handshake(secured: Edge) -> None:
    """A silent connection does not delay the stop."""
    with script(secured, associated=False):
        wait_until(lambda: secured.alive() == 1, DEADLINE_SECONDS, "the connection to be served")
        secured.acceptor.stop()
        secured.wait_ended()
    assert [word for word, _ in secured.policy.unadmitted] == ["stopped"]


def test_a_silent_handshake_ends_with_artim(secured: Edge) -> None:
    """A connection without a handshake cannot hold a thread."""
    with script(secured, associated=False) as it:
        it.expect_end()
    secured.wait_ended()
    assert [word for word, _ in secured.policy.unadmitted] == ["timeout"]


def test_plain_dicom_gets_no_association(secured: Edge) -> None:
    """A requestor without TLS is refused, and a log line says why."""
    with pytest.raises(PeerAwayError):
        associate(peer(secured, None), calling_ae_title="US", contexts=[ECHO])
    secured.wait_ended()
    [(word, error)] = secured.policy.unadmitted
    assert word == "lost"
    assert "TLS handshake" in error


def test_a_caller_without_a_certificate_gets_no_association(secured: Edge, certs: Certificates) -> None:
    """With mutual TLS a certificate is required, and a trusted authority must have signed it."""
    stranger = requestor_context(
        certs.stranger.certificate, certs.stranger.key, certs.ca, check_host=True, where="tls"
    )
    for tls in (requestor_tls(certs, shows=False), stranger):
        with pytest.raises(PeerAwayError):
            associate(peer(secured, tls), calling_ae_title="US", contexts=[ECHO])
    secured.wait_ended()
    assert secured.policy.requestors == []


def test_the_peer_is_verified(certs: Certificates) -> None:
    """Nothing is sent to an acceptor whose certificate has another authority or another host."""
    strange = acceptor_context(certs.stranger.certificate, certs.stranger.key, None, where="edge.tls")
    with edge(tls=strange) as running:
        with pytest.raises(PeerAwayError, match="certificate refused"):
            associate(peer(running, requestor_tls(certs)), calling_ae_title="US", contexts=[ECHO])
        anybody = requestor_context(None, None, None, check_host=False, where="tls")
        with associate(peer(running, anybody), calling_ae_title="US", contexts=[ECHO]) as it:
            assert it.echo() == 0


def test_associations_side_by_side(secured: Edge, certs: Certificates) -> None:
    """Eight at once, and none is mixed up."""

    def send(number: int) -> None:
        with associate(
            peer(secured, requestor_tls(certs)), calling_ae_title=f"US{number}", contexts=[CT_IMPLICIT]
        ) as it:
            for _ in range(10):
                assert it.store(CT_IMPLICIT, f"1.{number}", [bytes([number]) * 50_001])[0] == 0

    threads = [threading.Thread(target=send, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(secured.policy.received) == 80
    for received in secured.policy.received:
        number = int(received.request.sop_instance_uid.removeprefix("1."))
        assert received.data == bytes([number]) * 50_001


# ---- DCMTK ---------------------------------------------------------------------------------------------


def test_storescu_with_tls(secured: Edge, certs: Certificates) -> None:
    """DCMTK's +tls with a certificate stores; +tla, without one, is refused."""
    target = ("127.0.0.1", str(secured.port), str(CT_FILE))
    shown = ("+tls", str(certs.sender.key), str(certs.sender.certificate), "+cf", str(certs.ca))
    done = subprocess.run(
        [dcmtk("storescu"), *shown, *target], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert secured.policy.received[0].finished
    done = subprocess.run(
        [dcmtk("storescu"), "+tla", "+cf", str(certs.ca), *target],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    secured.wait_ended()
    assert secured.policy.outcomes == [("released", None)]


def test_storescu_without_a_certificate_where_none_is_required(certs: Certificates) -> None:
    """`client_certificate: none`."""
    with edge(tls=acceptor_tls(certs, mutual=False)) as running:
        done = subprocess.run(
            [dcmtk("echoscu"), "+tla", "+cf", str(certs.ca), "127.0.0.1", str(running.port)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_storescp_with_tls(processes: Processes, certs: Certificates, tmp_path: Path) -> None:
    """DCMTK's storescp +tls gets the bytes, and only from a caller with a certificate."""
    [port] = free_ports(1)
    processes.start(
        dcmtk("storescp"), "+tls", certs.edge.key, certs.edge.certificate, "+cf", certs.ca,
        "--bit-preserving", "-od", tmp_path, str(port),
    ).wait_for_port(port)  # fmt: skip
    raw = CT_FILE.read_bytes()
    data = raw[read_file_meta(raw).data_set_offset :]
    context = ProposedContext(CT, EXPLICIT)
    archive = PeerAddress("127.0.0.1", port, "ANY", 10, 5, requestor_tls(certs))
    with associate(archive, calling_ae_title="US", contexts=[context]) as it:
        assert [it.store(context, f"1.2.{n}", [data]) for n in range(5)] == [(0, "")] * 5
    stored = [path.read_bytes() for path in tmp_path.glob("CT*")]
    assert [file[read_file_meta(file).data_set_offset :] for file in stored] == [data] * 5


# ---- configuration -------------------------------------------------------------------------------------


def configured(folder: Path, *, edge_tls: object = None, pacs_tls: object = None) -> config.Configuration:
    """Return a configuration with these sections."""
    content = layout.configuration(layout.choose_ports(well_known=False))
    if edge_tls is not None:
        content["edge"]["tls"] = edge_tls
    if pacs_tls is not None:
        content["forwarder"]["orthanc"]["tls"] = pacs_tls
    return config.load(layout.write(folder, content))


def test_tls_paths_are_relative_to_the_configuration_file(tmp_path: Path) -> None:
    """Like all other paths."""
    own = {"certificate": "a.pem", "key": "a.key", "ca": "ca.pem"}
    configuration = configured(tmp_path, edge_tls=own, pacs_tls=own)
    assert configuration.edge.tls is not None
    assert configuration.edge.tls.key == tmp_path / "a.key"
    assert configuration.forwarder.orthanc.tls is not None
    assert configuration.forwarder.orthanc.tls.ca == tmp_path / "ca.pem"


@pytest.mark.parametrize(
    ("edge_tls", "pacs_tls", "words"),
    [
        ({"certificate": "a", "key": "b"}, None, "edge.tls: client certificates are verified with ca"),
        (None, {"ca": "a", "certificate": "b"}, "certificate and key belong together"),
        (None, {}, "verify: none"),
    ],
)
def test_an_incomplete_tls_section_is_refused(
    tmp_path: Path, edge_tls: object, pacs_tls: object, words: str
) -> None:
    """The error names the key and what to do."""
    with pytest.raises(ConfigurationError, match=words):
        configured(tmp_path, edge_tls=edge_tls, pacs_tls=pacs_tls)


def test_an_unreadable_file_is_named(tmp_path: Path, certs: Certificates) -> None:
    """The error names key and file, for each role; also for a key that belongs to another certificate."""
    missing = tmp_path / "missing.key"
    with pytest.raises(ConfigurationError, match=rf"edge\.tls\.key = {missing}: No such file"):
        acceptor_context(certs.edge.certificate, missing, None, where="edge.tls")
    with pytest.raises(ConfigurationError, match=r"edge\.tls\.key = .*sender\.key: "):
        acceptor_context(certs.edge.certificate, certs.sender.key, None, where="edge.tls")
    configuration = configured(tmp_path / "edge", pacs_tls={"ca": "none.pem"})
    forwarder = configuration.forwarder
    with pytest.raises(ConfigurationError, match=r"destination ORTHANC\.ca = .*none\.pem: No such file"):
        address_of(forwarder.orthanc, forwarder)
