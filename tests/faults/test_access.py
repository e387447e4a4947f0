"""Access: AE titles and addresses, certificates, and the permissions of files and folders."""

import os
import socket
import ssl
import stat
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from conftest import MakeEdge
from support import certificates
from support.broken_peers import request
from support.certificates import Certificates, Pair
from support.edge_setup import EdgeSetup
from support.synthetic_instances import CT, EXPLICIT, Instance
from support.waiting import wait_until

from gateway.dicom import pdu
from gateway.dicom.association import PeerAddress
from gateway.dicom.contexts import ProposedContext
from gateway.dicom.requestor import associate
from gateway.dicom.tls import requestor_context
from gateway.errors import AssociationRejectedError, PeerAwayError

pytestmark = pytest.mark.guarantee("G7")
WORKERS = [f"APP0{number}" for number in range(1, 6)]
CONTEXTS = [ProposedContext(CT, EXPLICIT)]


# ---- titles and addresses --------------------------------------------------------------------------


def answer(edge: EdgeSetup, calling: str, host: str = "127.0.0.1") -> tuple[int, int, int] | None:
    """Return result, source and reason of the rejection of that title; None if it is accepted."""
    configured = edge.configuration.edge
    peer = PeerAddress(host, configured.port, configured.ae_title, 10, 10)
    try:
        with associate(peer, calling_ae_title=calling, contexts=CONTEXTS) as association:
            assert association.is_alive()
    except AssociationRejectedError as rejected:
        return rejected.result, rejected.source, rejected.reason
    return None


def test_an_ae_title_is_accepted_from_its_address_only(make_edge: MakeEdge) -> None:
    """An unknown title and a wrong address both get 1/1/3; the log says which of them it was."""
    allowed = [
        "ORTHANC@127.0.0.0/8",
        "CT1@10.0.0.0/8",
        "CT1@fd00::/8",
        "MR1@localhost",
        "US1@nowhere.invalid",
        *WORKERS,
    ]
    edge = make_edge({"edge": {"allowed_calling_aets": allowed, "max_associations": 1}})
    edge.serve()
    for let_in in ("ORTHANC", "MR1", "APP01"):
        assert answer(edge, let_in) is None
        edge.wait_log(outcome="released", calling_ae_title=let_in)  # the only place is free again
    for kept_out in ("CT1", "US1", "STRANGER"):
        assert answer(edge, kept_out) == (1, 1, 3)
    stranger = edge.wait_log(outcome="rejected", calling_ae_title="STRANGER")
    assert stranger["error"] == "calling_aet_not_allowed"
    wrong = edge.wait_log(outcome="rejected", calling_ae_title="CT1")
    assert (wrong["error"], wrong["remote_address"]) == ("calling_address_not_allowed", "127.0.0.1")
    assert "10.0.0.0/8, fd00::/8 only" in wrong["detail"]
    nameless = edge.wait_log(outcome="rejected", calling_ae_title="US1")
    assert nameless["error"] == "calling_address_not_allowed"
    assert "nowhere.invalid has no address" in nameless["detail"]


def test_a_rejected_caller_uses_no_capacity(make_edge: MakeEdge) -> None:
    """The limit is one association: after a hundred rejected attempts with a known title it is still free."""
    allowed = ["ORTHANC@127.0.0.1", "CT1@10.0.0.0/8", *WORKERS]
    edge = make_edge({"edge": {"allowed_calling_aets": allowed, "max_associations": 1}})
    edge.serve()
    port = edge.configuration.edge.port
    open_ones = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
    for sock in open_ones:
        sock.sendall(request(calling="CT1"))
    wait_until(lambda: len(edge.log(error="calling_address_not_allowed")) == 100, 20, "all to be rejected")
    assert edge.send(Instance()) == [0]
    for sock in open_ones:
        sock.close()


def test_the_same_source_port_to_two_edge_addresses_is_two_associations(make_edge: MakeEdge) -> None:
    """Each uses one place of the limit and releases it."""
    edge = make_edge({"edge": {"bind_address": "0.0.0.0", "receivers": 1, "max_associations": 2}})  # noqa: S104
    edge.serve()
    with ExitStack() as stack:
        port = 0
        for address in ("127.0.0.1", "127.0.0.2"):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            port = sock.getsockname()[1]
            sock.connect((address, edge.configuration.edge.port))
            sock.sendall(request())
            assert sock.recv(4096)[0] == pdu.ASSOCIATE_AC
    wait_until(lambda: len(edge.log(outcome="lost")) == 2, 10, "both to have ended")
    with edge.association(CONTEXTS), edge.association(CONTEXTS):
        assert answer(edge, "ORTHANC") == (2, 3, 2)
    assert not edge.log(outcome="association_failed")


def test_one_socket_serves_ipv6_and_ipv4_callers(make_edge: MakeEdge) -> None:
    """`bind_address: "::"` serves both; an IPv4 entry also matches the mapped address."""
    if not socket.has_ipv6 or not _has_ipv6_loopback():
        pytest.skip("this machine has no IPv6 on loopback")
    allowed = ["ORTHANC@127.0.0.1", "CT1@::1", *WORKERS]
    edge = make_edge({"edge": {"allowed_calling_aets": allowed, "bind_address": "::"}})
    edge.serve()
    assert answer(edge, "CT1", "::1") is None
    assert answer(edge, "ORTHANC", "127.0.0.1") is None
    assert answer(edge, "CT1", "127.0.0.1") == (1, 1, 3)
    assert answer(edge, "ORTHANC", "::1") == (1, 1, 3)


def _has_ipv6_loopback() -> bool:
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


# ---- certificates ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return certificates, made once for the module, since openssl is slow."""
    return certificates.make(tmp_path_factory.mktemp("tls") / "certificates")


def secured(make_edge: MakeEdge, certs: Certificates) -> EdgeSetup:
    """Return an SCP that requires a certificate."""
    tls = {"certificate": str(certs.edge.certificate), "key": str(certs.edge.key), "ca": str(certs.ca)}
    edge = make_edge({"edge": {"tls": tls}})
    edge.serve()
    return edge


def showing(certs: Certificates, pair: Pair | None) -> ssl.SSLContext:
    """Return the TLS context of a sender that trusts the edge's authority and presents that certificate."""
    own = (None, None) if pair is None else (pair.certificate, pair.key)
    return requestor_context(*own, certs.ca, check_host=True, where="tls")


Choose = Callable[[Certificates], Pair | None]


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (lambda _: None, "peer did not return a certificate"),
        (lambda certs: certs.stranger, "certificate refused: self-signed certificate"),
        (lambda certs: certs.foreign, "certificate refused: "),
        (lambda certs: certs.expired, "certificate refused: certificate has expired"),
    ],
    ids=["nothing", "self-signed", "another authority", "expired"],
)
def test_a_caller_without_a_trusted_certificate_is_refused(
    make_edge: MakeEdge, certs: Certificates, shown: Choose, reason: str
) -> None:
    """The caller gets no association, and the log says why; a caller with a trusted certificate is served."""
    edge = secured(make_edge, certs)
    configured = edge.configuration.edge
    peer = PeerAddress(
        "127.0.0.1", configured.port, configured.ae_title, 10, 10, showing(certs, shown(certs))
    )
    with pytest.raises(PeerAwayError):
        associate(peer, calling_ae_title="ORTHANC", contexts=CONTEXTS)
    wait_until(lambda: reason in str(edge.log(stage="receive")).replace("_", " ").lower(), 10, reason)
    good = PeerAddress(
        "127.0.0.1", configured.port, configured.ae_title, 10, 10, showing(certs, certs.sender)
    )
    instance = Instance()
    with associate(good, calling_ae_title="ORTHANC", contexts=[instance.context]) as association:
        assert association.store(instance.context, instance.sop_instance_uid, [instance.data_set()])[0] == 0
    assert len(edge.log(outcome="associated")) == 1


# ---- file modes ------------------------------------------------------------------------------------


def modes(root: Path) -> dict[str, int]:
    """Return the permission bits of everything below the folder."""
    return {
        str(path.relative_to(root)): stat.S_IMODE(path.lstat().st_mode)
        for path in (root, *root.rglob("*"))
        if not path.is_symlink()
    }


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_patient_files_are_closed_to_other_users(make_edge: MakeEdge, umask: int) -> None:
    """Files have at most 0640 and folders 0750, whatever the umask, in every folder of the spool."""
    edge = make_edge({"sweep": {"orphan_grace_seconds": 0.001}})
    before = os.umask(umask)
    try:
        edge.serve()
        kept, lost = Instance(), Instance()
        assert edge.send(kept, lost) == [0, 0]
        edge.run("DELETE FROM instances WHERE sop_instance_uid = %(uid)s", uid=lost.sop_instance_uid)
        edge.run("UPDATE instances SET place = 'queued'")
        # Without its envelope it was never acknowledged: the sweep moves it to orphaned/.
        edge.files()[f"incoming/{lost.sop_instance_uid}.dcm"].write_bytes(bytes(512))
        edge.scp.stop()
        edge.start("mini-pacs", "sweep").wait(60)
    finally:
        os.umask(before)
    assert edge.orphans()
    configured = edge.configuration.edge
    found = {**modes(configured.data_root), **modes(configured.log_path.parent)}
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o027} == {}
    assert found[f"queued/{kept.study_instance_uid}"] == 0o750 & ~umask
