"""The spool: full, not mounted, not writable; files that are damaged or not registered; a certificate."""

import os
from pathlib import Path

from gateway.config.destination import DestinationTls
from support import certificates
from support.broken_edges.case import Breaking, case
from support.healthy_edge import HealthyEdge
from support.synthetic_instances import Instance


@case("spool.reserve", "at its reserve", "sweep.retention_hours")
def disk_at_reserve(edge: HealthyEdge) -> Breaking:
    """The disk of the spool is nearly full."""
    edge.configure_edge(disk_reserve_mb=1 << 40)
    yield
    edge.restore()


@case("spool.unregistered", "acknowledged and not registered", "mini-pacs serve")
def unregistered(edge: HealthyEdge) -> Breaking:
    """An instance was answered Success a while ago, and has no rows."""
    one = edge.core.received(Instance())
    assert one.link is not None
    link = one.link
    earlier = link.stat().st_mtime - 3600
    os.utime(link, (earlier, earlier))
    yield
    edge.core.registration().register_one(one)
    edge.edge.run("UPDATE deliveries SET state = 'cancelled'")
    edge.edge.run("DELETE FROM dramatiq.queue")


@case("spool.damaged", "do not hold the bytes", "mini-pacs send")
def damaged(edge: HealthyEdge) -> Breaking:
    """A file has other bytes than were received."""
    path = edge.configuration.edge.data_root / "damaged" / "1.2.3" / "1.2.3.4.dcm"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    yield
    path.unlink()


@case("spool.unknown", "spool", "")
def spool_not_mounted(edge: HealthyEdge, tmp_path: Path) -> Breaking:
    """The folder of the spool is empty, because its disk is not mounted."""
    edge.core.owed(Instance())
    edge.edge.run("UPDATE deliveries SET state = 'cancelled'")
    edge.edge.run("DELETE FROM dramatiq.queue")
    empty = tmp_path / "not-mounted"
    empty.mkdir()
    edge.configure_edge(data_root=empty)
    yield
    edge.restore()


@case("configuration.refused:edge.data_root", "a folder is expected", "config check")
def spool_not_writable(edge: HealthyEdge, tmp_path: Path) -> Breaking:
    """A file has the name of the folder of the spool."""
    path = tmp_path / "file"
    path.touch()
    edge.configure_edge(data_root=path / "data")
    yield
    edge.restore()


@case("certificate:", "ended at", "renew it")
def certificate_expired(edge: HealthyEdge, tmp_path: Path) -> Breaking:
    """The certificate that the edge presents to the PACS has expired."""
    made = certificates.make(tmp_path / "certificates")
    tls = DestinationTls(certificate=made.expired.certificate, key=made.expired.key, verify="none")
    edge.configure_pacs(tls=tls)
    yield
    edge.restore()
