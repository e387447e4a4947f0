"""Edges whose own port speaks TLS."""

import ssl
import time
from collections.abc import Generator
from contextlib import suppress

from proof.edges import sender
from proof.edges.edge import broken
from proof.edges.lab import Lab, Setup
from proof.edges.sender import NotAssociatedError

PLAIN = Setup("plain-port")


def _secure(lab: Lab, days: int = 30) -> None:
    """Restart the edge with TLS on its port."""
    certificate, key = lab.authority.sign("edge", days=days)
    keys = {"certificate": str(certificate), "key": str(key), "client_certificate": "none"}
    lab.write({**lab.base, "edge": {**lab.base["edge"], "tls": keys}})
    lab.restart("serve")


def _plain(lab: Lab) -> None:
    lab.write(lab.base)
    lab.restart("serve")
    lab.mini_pacs("config", "reload", "--yes")
    lab.sent_again()


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@broken(PLAIN, (r"TLS", r"127\.0\.0\.1", r"plain|no TLS|without TLS|not speak TLS"), (r"sender|edge\.tls",))
def sender_speaks_plain_to_tls(lab: Lab) -> Generator[None]:
    """The edge was switched to TLS, a modality was not."""
    _secure(lab)
    for _ in range(4):
        with suppress(NotAssociatedError):
            sender.send(lab.port, [sender.synthetic()])
    time.sleep(6)
    yield
    _plain(lab)


@broken(PLAIN, (r"TLS", r"127\.0\.0\.1"), (r"sender|edge\.tls",))
def sender_speaks_tls_to_plain(lab: Lab) -> Generator[None]:
    """A modality was switched to TLS, the edge was not."""
    for _ in range(4):
        with suppress(NotAssociatedError, OSError):
            sender.send(lab.port, [sender.synthetic()], tls=_context())
    time.sleep(6)
    yield
    _secure(lab)
    sender.send(lab.port, [sender.synthetic()], tls=_context())
    _plain(lab)


@broken(PLAIN, (r"certificate", r"expired|ended", r"edge"), (r"edge\.tls\.certificate|renew|certificate",))
def own_certificate_expired(lab: Lab) -> Generator[None]:
    """The certificate of the edge expired while it ran."""
    _secure(lab)
    lab.authority.sign("edge", days=-1)
    lab.stop("serve")
    lab.start("serve")
    time.sleep(6)
    yield
    _plain(lab)


@broken(PLAIN, (r"certificate", r"(ends?|expires?) "), (r"edge\.tls\.certificate|renew|certificate",))
def pacs_client_certificate_ends(lab: Lab) -> Generator[None]:
    """The client certificate that the edge shows to the PACS has expired."""
    served, served_key = lab.authority.sign("pacs")
    own, own_key = lab.authority.sign("edge-client", days=-1)
    lab.pacs_ok("+tls", str(served_key), str(served), "+cf", str(lab.authority.certificate), "-rc")
    lab.configure_pacs(
        tls={"ca": str(lab.authority.certificate), "certificate": str(own), "key": str(own_key)}
    )
    lab.send(2)
    time.sleep(4)
    yield
    lab.pacs_ok()
    lab.configure({})
    lab.command("destinations", "resume", "PACS")
