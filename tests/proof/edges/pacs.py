"""Edges whose PACS is away, wrong, slow or unwilling."""

import sys
import time
from collections.abc import Generator

from proof.edges import sender
from proof.edges.certificates import Authority
from proof.edges.edge import broken
from proof.edges.lab import Lab, Setup
from proof.edges.machine import program, run
from proof.edges.sender import JPEG

PACS = Setup("pacs")
FAR = Setup("far", namespace=True)
SILENT = """
import socket, sys
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=200)
kept = []
while True:
    kept.append(listening.accept())
"""
_HTTP = """
import http.server, sys
at = ("127.0.0.1", int(sys.argv[1]))
http.server.ThreadingHTTPServer(at, http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def recover(lab: Lab) -> None:
    """Put the healthy PACS back, with the configuration that the lab began with."""
    lab.pacs_ok()
    if lab.config != lab.base:
        lab.configure({})
    lab.command("destinations", "resume", "PACS")


def _orthanc(lab: Lab, **settings: object) -> None:
    """Put Orthanc in the place of the PACS, with settings of its own."""
    import json  # noqa: PLC0415  only here

    folder = lab.folder / "orthanc"
    folder.mkdir(exist_ok=True)
    chosen = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "DicomAet": "PACS",
        "DicomPort": lab.pacs_port,
        "HttpServerEnabled": False,
        "DicomCheckCalledAet": True,
    }
    file = lab.folder / "orthanc.json"
    file.write_text(json.dumps(chosen | settings))
    lab.pacs(program("Orthanc"), str(file))


@broken(PACS, (r"\bPACS\b", r"refused"), (r"start|forwarder\.orthanc\.(host|port)",))
def pacs_port_closed(lab: Lab) -> Generator[None]:
    """The PACS was stopped; nothing listens on its port."""
    lab.stop("PACS")
    lab.send(3)
    time.sleep(3)
    yield
    recover(lab)


@broken(
    PACS,
    (r"pacs\.nowhere\.invalid", r"resolv|no such (host|name)|name .*(unknown|not known)|DNS"),
    (r"forwarder\.orthanc\.host|DNS",),
)
def pacs_name_unknown(lab: Lab) -> Generator[None]:
    """The name of the PACS in config.yaml cannot be resolved."""
    lab.configure_pacs(host="pacs.nowhere.invalid")
    lab.send(2)
    time.sleep(3)
    yield
    recover(lab)


@broken(
    FAR,
    (r"\bPACS\b", r"10\.213\.\d+\.2", r"timed? ?out|no answer|does not answer|unreachable|no route"),
    (r"firewall|network|route|forwarder\.orthanc\.(host|port)",),
)
def pacs_behind_a_firewall(lab: Lab) -> Generator[None]:
    """A firewall drops every packet to the PACS."""
    assert lab.namespace is not None
    lab.namespace.unplug()
    lab.send(3)
    time.sleep(8)
    yield
    lab.namespace.plug()


@broken(
    FAR,
    (r"\bPACS\b", r"C-ECHO", r"C-STORE", r"not answer|no answer|timed? ?out|takes? no"),
    (r"PACS|network|MTU|disk|forwarder",),
)
def pacs_behind_a_small_mtu(lab: Lab) -> Generator[None]:
    """A hop drops large packets without a word: C-ECHO passes, C-STORE hangs."""
    assert lab.namespace is not None
    lab.namespace.narrow()
    lab.send(3)
    time.sleep(10)
    yield
    lab.namespace.narrow(ends=True)


@broken(PACS, (r"\bPACS\b", r"HTTP"), (r"forwarder\.orthanc\.port",))
def pacs_port_speaks_http(lab: Lab) -> Generator[None]:
    """The port in config.yaml is the web page of the PACS."""
    lab.pacs(sys.executable, "-c", _HTTP, str(lab.pacs_port))
    lab.send(2)
    time.sleep(3)
    yield
    recover(lab)


@broken(PACS, (r"\bPACS\b", r"\bTLS\b"), (r"forwarder\.orthanc\.tls|`tls`|\btls\b",))
def pacs_speaks_tls(lab: Lab) -> Generator[None]:
    """The PACS was switched to TLS, the edge was not."""
    certificate, key = lab.authority.sign("pacs")
    lab.pacs_ok("+tls", str(key), str(certificate), "+cf", str(lab.authority.certificate), "-ic")
    lab.send(2)
    time.sleep(3)
    yield
    lab.configure_pacs(tls={"ca": str(lab.authority.certificate)})
    lab.settled()
    recover(lab)


@broken(PACS, (r"\bPACS\b", r"plain|no TLS|not speak TLS"), (r"tls",))
def pacs_speaks_plain(lab: Lab) -> Generator[None]:
    """The edge wants TLS, the PACS speaks plain DICOM."""
    lab.configure_pacs(tls={"ca": str(lab.authority.certificate)})
    lab.send(2)
    time.sleep(3)
    yield
    recover(lab)


def _tls_pacs(lab: Lab, authority: Authority, name: str, host: str = "IP:127.0.0.1", days: int = 30) -> None:
    certificate, key = authority.sign(name, host, days)
    lab.pacs_ok("+tls", str(key), str(certificate), "+cf", str(authority.certificate), "-ic")
    lab.configure_pacs(tls={"ca": str(lab.authority.certificate)})
    lab.send(2)
    time.sleep(3)


@broken(PACS, (r"\bPACS\b", r"certificate", r"expired|ended"), (r"certificate|renew",))
def pacs_certificate_expired(lab: Lab) -> Generator[None]:
    """The certificate of the PACS has expired."""
    _tls_pacs(lab, lab.authority, "expired", days=-1)
    yield
    recover(lab)


@broken(
    PACS,
    (r"\bPACS\b", r"certificate", r"\bCA\b|issuer|not signed|authority|self.signed"),
    (r"forwarder\.orthanc\.tls\.ca|tls.*\bca\b",),
)
def pacs_certificate_of_another_ca(lab: Lab) -> Generator[None]:
    """Another CA than the configured one signed the certificate of the PACS."""
    _tls_pacs(lab, Authority(lab.folder / "tls", "stranger"), "strange")
    yield
    recover(lab)


@broken(
    PACS,
    (r"\bPACS\b", r"certificate", r"name|address|issued (to|for)|mismatch|127\.0\.0\.1"),
    (r"forwarder\.orthanc\.host|verify",),
)
def pacs_certificate_of_another_host(lab: Lab) -> Generator[None]:
    """The certificate of the PACS is for another host name."""
    _tls_pacs(lab, lab.authority, "elsewhere", "DNS:other.hospital.example")
    yield
    recover(lab)


@broken(
    PACS,
    (
        r"\bPACS\b",
        r"accepts? (TCP|the connection|connections)|connect|listens",
        r"no answer|not answer|answers nothing|silent|timed? ?out",
    ),
    (r"restart|PACS|forwarder\.orthanc\.port",),
)
def pacs_accepts_and_is_silent(lab: Lab) -> Generator[None]:
    """The PACS accepts connections and never answers."""
    lab.pacs(sys.executable, "-c", SILENT, str(lab.pacs_port))
    lab.send(2)
    time.sleep(8)
    yield
    recover(lab)


@broken(PACS, (r"\bPACS\b", r"C-ECHO", r"C-STORE"), (r"PACS|disk|restart",))
def pacs_hangs_on_c_store(lab: Lab) -> Generator[None]:
    """The PACS answers C-ECHO, and no C-STORE."""
    lab.pacs_peer("--store", "hang")
    lab.send(4)
    time.sleep(12)
    yield
    recover(lab)


@broken(
    PACS,
    (r"\bPACS\b", r"slow|more arrive|arriv.*(faster|more)|\d+ (a|per) min|/ ?min"),
    (r"PACS|associations|forwarder",),
    within=30,  # a study is a burst that a healthy PACS takes
)
def pacs_slower_than_what_arrives(lab: Lab) -> Generator[None]:
    """The PACS takes 2 s for each instance on its only association; 6 a second arrive."""
    lab.pacs_peer("--store", "slow", "--seconds", "2", "--associations", "2")
    with sender.traffic(lab.port, 6):
        time.sleep(14)
        yield
    recover(lab)


@broken(PACS, (r"\bPACS\b", r"calling AE title"), (r"MINI_EDGE",))
def pacs_rejects_our_title(lab: Lab) -> Generator[None]:
    """Orthanc as the PACS does not know the AE title of the edge."""
    _orthanc(lab, DicomAlwaysAllowEcho=False, DicomAlwaysAllowStore=False, DicomModalities={})
    lab.send(2)
    time.sleep(3)
    yield
    recover(lab)


@broken(PACS, (r"\bPACS\b", r"called AE title"), (r"forwarder\.orthanc\.ae_title",))
def pacs_has_another_title(lab: Lab) -> Generator[None]:
    """Orthanc as the PACS was renamed."""
    _orthanc(lab, DicomAet="ARCHIVE2")
    lab.send(2)
    time.sleep(3)
    yield
    recover(lab)


@broken(
    PACS,
    (r"\bPACS\b", r"limit|too many associations|congestion|no more associations"),
    (r"max_associations_per_peer|association",),
)
def pacs_has_no_association_left(lab: Lab) -> Generator[None]:
    """Somebody holds all associations of the PACS."""
    lab.pacs_peer("--associations", "2")
    held = sender.hold(lab.pacs_port, 2, calling="OTHER", called="PACS")
    lab.send(2)
    time.sleep(4)
    yield
    for one in held:
        one.abort()
    recover(lab)


@broken(PACS, (r"\bPACS\b", r"MR Image Storage"), (r"PACS|accepts",))
def pacs_refuses_a_sop_class(lab: Lab) -> Generator[None]:
    """The PACS accepts CT only; MR is sent."""
    lab.pacs_peer("--only-sop-class", "1.2.840.10008.5.1.4.1.1.2")
    lab.send(2, modality="MR")
    time.sleep(4)
    yield
    recover(lab)
    lab.mini_pacs("deliveries", "retry", "--state", "dead")


@broken(PACS, (r"\bPACS\b", r"JPEG Baseline"), (r"accepted_transfer_syntaxes|PACS",))
def pacs_refuses_a_transfer_syntax(lab: Lab) -> Generator[None]:
    """The PACS accepts uncompressed data only; JPEG is sent."""
    lab.pacs_peer("--syntax", "1.2.840.10008.1.2.1", "--syntax", "1.2.840.10008.1.2")
    sender.send(lab.port, [sender.synthetic(syntax=JPEG) for _ in range(2)])
    time.sleep(4)
    yield
    recover(lab)
    lab.mini_pacs("deliveries", "retry", "--state", "dead")


@broken(PACS, (r"\bPACS\b", r"0xA700|out of resources"), (r"disk|space|PACS",))
def pacs_is_full(lab: Lab) -> Generator[None]:
    """The PACS answers each C-STORE with Out of Resources."""
    lab.pacs_peer("--store", "status", "--status", "A700")
    lab.send(3)
    time.sleep(5)
    yield
    recover(lab)


@broken(PACS, (r"\bPACS\b", r"cannot understand|0xC0"), (r"deliveries retry",))
def pacs_refuses_instances(lab: Lab) -> Generator[None]:
    """The PACS answers each C-STORE with Cannot Understand until the deliveries are dead."""
    lab.pacs_peer("--store", "status", "--status", "C001")
    lab.send(2)
    time.sleep(8)
    yield
    recover(lab)
    lab.mini_pacs("deliveries", "retry", "--state", "dead")


@broken(PACS, (r"\bPACS\b", r"abort"), (r"PACS|deliveries",))
def pacs_aborts_each_c_store(lab: Lab) -> Generator[None]:
    """DCMTK's storescp aborts the association at each C-STORE."""
    lab.pacs_ok("--abort-after")
    lab.send(3)
    time.sleep(8)
    yield
    recover(lab)
    lab.command("deliveries", "retry", "--state", "dead")


@broken(PACS, (r"\bPACS\b", r"paused"), (r"destinations resume PACS",))
def pacs_paused_and_forgotten(lab: Lab) -> Generator[None]:
    """Somebody paused the PACS and went home."""
    lab.mini_pacs("destinations", "pause", "PACS")
    lab.send(3)
    time.sleep(2)
    yield
    lab.mini_pacs("destinations", "resume", "PACS")


@broken(
    PACS, (r"archives|VNA", r"no (actor )?process|nobody|not served|without"), (r"dramatiq actors.*archives",)
)
def archive_without_a_process(lab: Lab) -> Generator[None]:
    """A second archive was configured, and nobody started the processes of the archives."""
    extra = lab.helper(
        program("storescp"), "--fork", "-aet", "VNA", "--ignore", "-pm", "+xa", str(lab.vna_port)
    )
    archive = {"host": "127.0.0.1", "port": lab.vna_port, "ae_title": "VNA", "timeout_s": 4}
    lab.configure({"forwarder": {"archives": [archive]}})
    lab.send(3)
    time.sleep(3)
    yield
    lab.start("archives")
    lab.settled()
    lab.stop("archives")
    lab.configure({})
    lab.end(extra)


@broken(PACS, (r"\bVNA\b", r"refused|away"), (r"start|forwarder\.archives",))
def second_archive_away(lab: Lab) -> Generator[None]:
    """The second archive is away; the PACS is well."""
    archive = {"host": "127.0.0.1", "port": lab.vna_port, "ae_title": "VNA", "timeout_s": 4}
    lab.configure({"forwarder": {"archives": [archive]}})
    lab.start("archives")
    lab.send(3)
    time.sleep(4)
    yield
    extra = lab.helper(
        program("storescp"), "--fork", "-aet", "VNA", "--ignore", "-pm", "+xa", str(lab.vna_port)
    )
    lab.settled()
    lab.stop("archives")
    lab.configure({})
    lab.end(extra)


@broken(PACS, (r"\bPACS\b", r"open files|file descriptors"), (r"ulimit|LimitNOFILE|open files|restart",))
def actors_have_no_file_left(lab: Lab) -> Generator[None]:
    """The processes of the PACS may not open one file more."""
    pids = run("pgrep", "-g", str(lab.processes["pacs"].pid)).split()
    for pid in pids:
        run("prlimit", "--pid", pid, "--nofile=1:4096")
    lab.send(3)
    time.sleep(6)
    yield
    lab.restart("pacs")
