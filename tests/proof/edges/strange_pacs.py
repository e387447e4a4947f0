"""Edges whose PACS is found at the wrong place, or answers what no PACS should."""

import time
from collections.abc import Generator

from proof.edges import sender
from proof.edges.edge import broken
from proof.edges.lab import Lab, Setup
from proof.edges.machine import is_open, resolver, wait_for
from proof.edges.pacs import recover

STRANGE = Setup("strange-pacs")
NAME = "pacs.hospital"
WORKLIST = "1.2.840.10008.5.1.4.31"


def _by_name(lab: Lab, address: str, seconds: int = 0) -> None:
    """Let the edge look up the PACS under a name."""
    lab.environment |= resolver(lab.folder, NAME, address, seconds)
    lab.restart("pacs")
    lab.configure_pacs(host=NAME)


def _by_address(lab: Lab) -> None:
    for key in [key for key in lab.environment if key == "LD_PRELOAD" or key.startswith("RESOLVER_")]:
        del lab.environment[key]
    recover(lab)
    lab.restart("pacs")


@broken(
    STRANGE,
    (r"\bPACS\b", r"called AE title", r"pacs\.hospital", r"127\.0\.0\.2"),
    (r"forwarder\.orthanc\.(host|ae_title)|DNS",),
)
def pacs_name_leads_to_another_server(lab: Lab) -> Generator[None]:
    """The name of the PACS has the address of another archive."""
    lab.pacs_peer()  # storescp listens at every address
    other = lab.helper(
        *lab.peer("ARCHIVE2", lab.pacs_port, "--address", "127.0.0.2", "--check-called"), name="other"
    )
    wait_for("the other archive", lambda: is_open(lab.pacs_port, "127.0.0.2"))
    _by_name(lab, "127.0.0.2")
    lab.send(2)
    time.sleep(4)
    yield
    lab.end(other)
    _by_address(lab)


@broken(
    STRANGE,
    (r"\bPACS\b", r"pacs\.hospital", r"resolv|look(ed|ing)? up|DNS|name", r"slow|took|takes|within|\d ?s\b"),
    (r"DNS|forwarder\.orthanc\.host|resolv",),
)
def pacs_name_resolves_slowly(lab: Lab) -> Generator[None]:
    """The first DNS server is dead, so each look-up of the PACS takes 15 s."""
    _by_name(lab, "127.0.0.1", 15)
    with sender.traffic(lab.port, 1):
        time.sleep(10)
        yield
    _by_address(lab)


@broken(
    STRANGE,
    (r"\bPACS\b", r"another (SOP )?instance|other (SOP )?instance|Affected SOP Instance|not the instance"),
    (r"vendor|PACS",),
    gone_within=None,  # the edge cannot know that the vendor mended it
)
def pacs_answers_for_another_instance(lab: Lab) -> Generator[None]:
    """The PACS names another SOP Instance UID in each answer."""
    lab.pacs_peer("--store", "other-uid")
    lab.send(3)
    time.sleep(8)
    yield
    recover(lab)
    lab.command("deliveries", "retry", "--state", "dead")


@broken(
    STRANGE,
    (r"\bPACS\b", r"no (Storage )?(SOP Class|context|storage)|CT Image Storage"),
    (r"forwarder\.orthanc\.port|PACS",),
)
def pacs_port_is_a_worklist(lab: Lab) -> Generator[None]:
    """The port in config.yaml is the worklist server of the PACS: it answers C-ECHO, and stores nothing."""
    lab.pacs_peer("--only-sop-class", WORKLIST)
    lab.send(3)
    time.sleep(6)
    yield
    recover(lab)


@broken(STRANGE, (r"\bPACS\b", r"0xFF00|pending|not final|no final"), (r"PACS|vendor",), gone_within=None)
def pacs_answers_pending(lab: Lab) -> Generator[None]:
    """The PACS answers each C-STORE with Pending, which is no answer to a C-STORE."""
    lab.pacs_peer("--store", "status", "--status", "FF00")
    lab.send(3)
    time.sleep(8)
    yield
    recover(lab)
    lab.command("deliveries", "retry", "--state", "dead")


@broken(STRANGE, (r"\bPACS\b", r"0x0124|not authori[sz]ed"), (r"PACS|MINI_EDGE|authori",))
def pacs_authorizes_no_storage(lab: Lab) -> Generator[None]:
    """The PACS lets the edge in and answers each C-STORE with Not Authorized."""
    lab.pacs_peer("--store", "status", "--status", "0124")
    lab.send(3)
    time.sleep(8)
    yield
    recover(lab)
    lab.command("deliveries", "retry", "--state", "dead")


@broken(
    STRANGE,
    (r"\bPACS\b", r"client certificate|certificate (is )?(required|demanded)|demands a certificate"),
    (r"forwarder\.orthanc\.tls",),
)
def pacs_demands_a_client_certificate(lab: Lab) -> Generator[None]:
    """The PACS demands a client certificate, and the edge has none."""
    certificate, key = lab.authority.sign("pacs")
    secure = ("--certificate", str(certificate), "--key", str(key))
    lab.pacs_peer(*secure, "--client-ca", str(lab.authority.certificate))
    lab.configure_pacs(tls={"ca": str(lab.authority.certificate)})
    lab.send(2)
    time.sleep(5)
    yield
    own, own_key = lab.authority.sign("edge-client")
    lab.configure_pacs(
        tls={"ca": str(lab.authority.certificate), "certificate": str(own), "key": str(own_key)}
    )
    lab.command("destinations", "resume", "PACS")
    lab.settled()
    recover(lab)


@broken(STRANGE, (r"\bPACS\b", r"TLS", r"version|1\.2|protocol"), (r"TLS 1\.2|PACS",))
def pacs_speaks_old_tls_only(lab: Lab) -> Generator[None]:
    """The PACS speaks TLS 1.1 at most."""
    certificate, key = lab.authority.sign("pacs")
    lab.pacs_peer("--certificate", str(certificate), "--key", str(key), "--old-tls")
    lab.configure_pacs(tls={"ca": str(lab.authority.certificate)})
    lab.send(2)
    time.sleep(5)
    yield
    recover(lab)


@broken(
    STRANGE,
    (r"key", r"certificate", r"not belong|mismatch|not match|another|KEY_VALUES_MISMATCH|do not fit"),
    (r"forwarder\.orthanc\.tls\.(key|certificate)",),
)
def own_key_of_another_certificate(lab: Lab) -> Generator[None]:
    """Somebody renewed the client certificate of the edge, and left the old key."""
    certificate, key = lab.authority.sign("pacs")
    lab.pacs_ok("+tls", str(key), str(certificate), "+cf", str(lab.authority.certificate), "-rc")
    own, own_key = lab.authority.sign("edge-client")
    lab.configure_pacs(
        tls={"ca": str(lab.authority.certificate), "certificate": str(own), "key": str(own_key)}
    )
    kept = own_key.read_bytes()
    lab.authority.sign("edge-client")
    own_key.write_bytes(kept)
    lab.restart("pacs")
    lab.send(2)
    time.sleep(6)
    yield
    lab.authority.sign("edge-client")
    lab.restart("pacs")
    lab.settled()
    recover(lab)


@broken(
    STRANGE,
    (r"\bPACS\b", r"max_instances_per_second|rate limit|limit"),
    (r"max_instances_per_second",),
    within=30,
)
def pacs_limited_to_too_few(lab: Lab) -> Generator[None]:
    """Somebody limited the PACS to one instance a second; 6 a second arrive."""
    lab.configure_pacs(max_instances_per_second=1)
    with sender.traffic(lab.port, 6):
        time.sleep(14)
        yield
    recover(lab)
