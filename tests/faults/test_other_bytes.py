"""Other bytes where a file should be: never delivered, never believed, and the right ones come back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MakeEdge
from forwarding import Forwarding, forwarding, pacs_of
from peers import Peer
from specimens import Instance

from gateway.domain.instance import Place
from gateway.domain.outcome import Outcome
from gateway.forward.attempt import forward_to_pacs

pytestmark = [pytest.mark.guarantee("G3"), pytest.mark.guarantee("G2")]

LARGE = b"\x01\x02" * 600_000
"""More than is read, or sent, at once."""


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """The core without its processes; the sweep waits for nothing."""
    edge = make_edge(
        {
            "forwarder": {"max_retries": 1},
            "sweep": {"orphan_grace_seconds": 0.01, "reconcile_grace_seconds": 0.01},
        }
    )
    with forwarding(edge) as core:
        yield core


@pytest.fixture
def pacs(core: Forwarding) -> Iterator[Peer]:
    """The PACS, on."""
    with pacs_of(core) as pacs:
        yield pacs


def only_file(core: Forwarding) -> Path:
    """The only file that is kept."""
    [path] = core.edge.files().values()
    return path


def rot(path: Path) -> None:
    """One bit of its last byte changes, as a disk does it: no size, no name."""
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


# ---- forwarding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"\x01\x02" * 512, LARGE], ids=["one fragment", "many"])
def test_a_file_whose_bits_changed_is_never_delivered(core: Forwarding, pacs: Peer, payload: bytes) -> None:
    """G3: the peer never gets the end of it; the debt is shown with its reason, and no peer is blamed."""
    instance = Instance(payload=payload)
    delivery = core.owed(instance)
    rot(only_file(core))
    for _ in range(2):
        assert forward_to_pacs(core.context, delivery) is Outcome.LOST_FILE
        core.due()
    assert pacs.taken == []
    row = core.edge.delivery(instance)
    assert row["state"] == "dead"
    assert "holds other bytes than were received" in row["last_error"]
    assert core.edge.one("SELECT failures_in_row FROM destinations WHERE ae_title = 'ORTHANC'") == 0


def test_an_instance_goes_out_whole_after_one_that_was_broken_off(core: Forwarding, pacs: Peer) -> None:
    """The association of the one that was broken off is not used again."""
    rotten, sound = Instance(payload=LARGE), Instance(payload=LARGE)
    first = core.owed(rotten)
    rot(only_file(core))
    second = core.owed(sound)
    assert forward_to_pacs(core.context, first) is Outcome.LOST_FILE
    assert forward_to_pacs(core.context, second) is Outcome.DELIVERED
    assert [taken.digest for taken in pacs.taken] == [sound.digest]


def test_of_two_files_of_one_name_the_received_one_is_sent(core: Forwarding, pacs: Peer) -> None:
    """The second version of a UID stands where the row of the first still says it is, equally long."""
    first = Instance()
    second = Instance(first.sop_instance_uid, first.study_instance_uid, payload=b"\x03\x04" * 512)
    delivery = core.owed(first)
    name = f"{first.sop_instance_uid}.dcm"
    assert core.spool.move(Place.QUEUED, first.study_instance_uid, name, was=Place.INCOMING)
    part = core.spool.begin()
    raw = core.edge.files()[f"queued/{name}"].read_bytes()
    part.write(raw.replace(first.data_set(), second.data_set()))
    part.keep(second.study_instance_uid, [name])
    assert forward_to_pacs(core.context, delivery) is Outcome.DELIVERED
    assert [taken.digest for taken in pacs.taken] == [first.digest]
    part.discard()
