"""The network address of a destination."""

from gateway.config.destination import Destination
from gateway.config.forwarder import Forwarder
from gateway.dicom.association import PeerAddress
from gateway.dicom.tls import requestor_context


def address_of(destination: Destination, forwarder: Forwarder) -> PeerAddress:
    """Return the address of a destination, with its timeouts and its TLS context.

    Raises:
        ConfigurationError: a certificate, key or CA file of its `tls` cannot be used.
    """
    tls = destination.tls
    return PeerAddress(
        destination.host,
        destination.port,
        destination.ae_title,
        timeout_seconds=destination.timeout_s,
        connect_timeout_seconds=forwarder.connect_timeout_seconds,
        tls=None
        if tls is None
        else requestor_context(
            tls.certificate,
            tls.key,
            tls.ca,
            check_host=tls.verify == "host",
            where=f"tls of destination {destination.ae_title}",
        ),
    )
