"""The address of a destination: every key of config.yaml that an association needs reaches it."""

from dataclasses import fields
from pathlib import Path

from support import certificates

from gateway.config.destination import Destination, DestinationTls, PacsDestination, Worker
from gateway.config.forwarder import Forwarder
from gateway.dicom.association import PeerAddress
from gateway.forward.peer import address_of

FIELD_OF = {
    "host": "host",
    "port": "port",
    "ae_title": "ae_title",
    "timeout_s": "timeout_seconds",
    "tls": "tls",
}
"""The field of `PeerAddress` for each key of a destination. A new key gets its line here."""

OF_WORKERS_ONLY = {"calling_ae_titles"}
"""Keys of a worker that its address does not need: the titles that it calls with."""


def test_every_key_of_a_destination_has_its_field() -> None:
    """A key that `address_of` forgets has no line; the connect timeout is a key of the forwarder."""
    assert set(FIELD_OF) == set(Destination.model_fields)
    assert set(Worker.model_fields) - set(FIELD_OF) == OF_WORKERS_ONLY
    assert {*FIELD_OF.values(), "connect_timeout_seconds"} == {field.name for field in fields(PeerAddress)}


def test_every_value_of_a_destination_reaches_its_address(tmp_path: Path) -> None:
    """No value is a default, so one that is not passed is seen."""
    authority = certificates.make(tmp_path / "tls")
    destination = PacsDestination(
        host="pacs.example",
        port=4243,
        ae_title="OTHER",
        timeout_s=17,
        tls=DestinationTls(ca=authority.ca),
    )
    address = address_of(destination, Forwarder(orthanc=destination, connect_timeout_seconds=7))
    for key, field in FIELD_OF.items():
        assert getattr(destination, key) != Destination.model_fields[key].default, (
            f"{key}: give it another value"
        )
        if key != "tls":
            assert getattr(address, field) == getattr(destination, key), key
    assert address.tls is not None
    assert address.connect_timeout_seconds == 7
