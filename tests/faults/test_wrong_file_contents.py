"""Other bytes where a file should be: never delivered, never believed, and the right ones come back."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import MakeEdge
from support.forwarding import Forwarding, forwarding
from support.peers import Peer
from support.synthetic_instances import Instance
from support.waiting import wait_until

from gateway.domain.instance import Place
from gateway.domain.outcome import Outcome
from gateway.forward.deliver import forward_to_pacs
from gateway.spool.places import ORPHANED
from gateway.sweep.context import SweepContext
from gateway.sweep.purge import purge
from gateway.sweep.reconcile import reconcile

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


# ---- orphaned/ -------------------------------------------------------------------------------------


def late_commit(core: Forwarding, instance: Instance) -> Path:
    """The row became visible after reconcile had moved its file to orphaned/; the path there."""
    core.receive(instance)
    path = only_file(core)
    target = core.edge.configuration.edge.data_root / ORPHANED / path.parent.name / path.name
    target.parent.mkdir()
    return path.rename(target)


def old(core: Forwarding) -> SweepContext:
    """A sweep for which everything is older than the retention."""
    sections = core.sweeping()
    sweep = sections.configuration.sweep.model_copy(update={"retention_hours": 1e-9})
    return replace(sections, configuration=sections.configuration.model_copy(update={"sweep": sweep}))


def test_purge_gives_back_an_orphan_that_a_row_owns(core: Forwarding) -> None:
    """G2: never deleted while it is owed, however old; it stands where its row says."""
    instance = Instance()
    late_commit(core, instance)
    assert purge(replace(old(core), dry=True))["orphans_returned"] == 1
    counts = purge(old(core))
    assert (counts["orphans_returned"], counts["orphans_purged"]) == (1, 0)
    assert only_file(core).parent.parent.name == Place.INCOMING
    assert purge(old(core))["orphans_returned"] == 0
    core.edge.check_ledger([instance])


def test_reconcile_brings_back_what_is_owed(core: Forwarding) -> None:
    """In the next minute, long before the retention is over; also where its name was taken in orphaned/."""
    plain, renamed = Instance(), Instance()
    late_commit(core, plain)
    assert reconcile(core.sweeping())["brought_back"] == 1
    only_file(core).unlink()
    path = late_commit(core, renamed)
    path.rename(path.with_name(f"{path.stem}~1.dcm"))
    core.edge.run("DELETE FROM instances WHERE sop_instance_uid = %(uid)s", uid=plain.sop_instance_uid)
    assert reconcile(core.sweeping(dry=True))["brought_back"] == 1
    assert reconcile(core.sweeping())["brought_back"] == 1
    assert reconcile(core.sweeping())["brought_back"] == 0
    assert core.edge.orphans() == []
    core.edge.check_ledger([renamed])


def test_an_orphan_of_its_row_takes_the_place_of_other_bytes(core: Forwarding) -> None:
    """What stood there under its name goes to orphaned/, and from there after the retention."""
    instance = Instance()
    path = late_commit(core, instance)
    place = core.spool.path(Place.INCOMING, instance.study_instance_uid, path.name)
    place.write_bytes(path.read_bytes())
    rot(place)
    assert purge(old(core))["orphans_returned"] == 1
    assert place.read_bytes().endswith(instance.data_set())
    assert len(core.edge.orphans()) == 1
    assert purge(old(core))["orphans_purged"] == 1
    core.edge.check_ledger([instance])


def test_an_orphan_that_only_bears_the_name_goes_after_the_retention(core: Forwarding) -> None:
    """The row's own file stands in its place: what is here is a second copy, or torn."""
    instance = Instance()
    core.receive(instance)
    path = only_file(core)
    folder = core.edge.configuration.edge.data_root / ORPHANED / path.parent.name
    folder.mkdir()
    (folder / path.name).write_bytes(path.read_bytes())
    (folder / f"{path.stem}~1.dcm").write_bytes(bytes(100))
    assert reconcile(core.sweeping())["brought_back"] == 0
    counts = purge(old(core))
    assert (counts["orphans_returned"], counts["orphans_purged"]) == (0, 2)
    core.edge.check_ledger([instance])


def test_reconcile_moves_the_received_bytes_and_no_others(core: Forwarding) -> None:
    """Three files of one name, the wrong one where the row says: the digest decides."""
    instance = Instance()
    core.receive(instance)
    path = only_file(core)
    for place in (Place.QUEUED, Place.SENT):
        other = core.spool.path(place, instance.study_instance_uid, path.name)
        other.parent.mkdir()
        other.write_bytes(path.read_bytes())
        rot(other)
    core.edge.run("UPDATE instances SET place = 'sent'")
    wait_until(lambda: reconcile(core.sweeping())["moved"], 5, "the grace to be over")
    core.edge.heal()
    assert [name for name in core.edge.files() if not name.startswith(ORPHANED)] == [f"sent/{path.name}"]
    sent = core.spool.path(Place.SENT, instance.study_instance_uid, path.name)
    assert sent.read_bytes().endswith(instance.data_set())
    assert len(core.edge.orphans()) == 2


# ---- repeats ---------------------------------------------------------------------------------------


def lose(core: Forwarding, instance: Instance) -> Path:
    """Its file was lost after it was delivered; where it stood."""
    core.edge.run(
        "UPDATE deliveries SET state = 'in_flight', claim_id = gen_random_uuid(), lease_until = now()"
    )
    core.edge.run(
        "UPDATE deliveries SET state = 'delivered', claim_id = NULL, lease_until = NULL, settled_at = now()"
    )
    path = core.edge.configuration.edge.data_root / Place.SENT / instance.study_instance_uid
    core.edge.run("UPDATE instances SET place = 'sent'")
    [kept] = [kept for kept in core.edge.files().values() if kept.stem.startswith(instance.sop_instance_uid)]
    kept.unlink()
    return path / kept.name


@pytest.mark.parametrize("where", [ORPHANED, Place.SENT])
@pytest.mark.parametrize("size", [100, None], ids=["torn", "equally long"])
def test_a_repeat_is_not_believed_to_be_kept_by_its_name(
    core: Forwarding, where: str, size: int | None
) -> None:
    """G1: Success means its bytes; a file of that name that does not hold them counts for nothing."""
    core.edge.serve()
    instance = Instance()
    assert core.edge.send(instance) == [0]
    raw = only_file(core).read_bytes()
    kept = lose(core, instance)
    other = core.spool.root / where / kept.parent.name / kept.name
    other.parent.mkdir()
    other.write_bytes(raw[:size])
    rot(other)
    assert core.edge.send(instance) == [0]
    wait_until(lambda: reconcile(core.sweeping())["moved"], 5, "the grace to be over")
    core.edge.heal()
    [place, name] = core.edge.rows("SELECT place::text, file_name FROM instances")[0]
    assert core.spool.path(Place(place), kept.parent.name, name).read_bytes() == raw


def test_a_repeat_of_a_lost_second_version_takes_no_name_of_the_first(core: Forwarding) -> None:
    """The first was moved on, so that its name is free in incoming/, and yet its own."""
    core.edge.serve()
    first = Instance()
    second = Instance(first.sop_instance_uid, first.study_instance_uid, payload=b"\x03\x04" * 512)
    assert core.edge.send(first) == [0]
    name = only_file(core).name
    assert core.edge.send(second) == [0]
    assert core.spool.move(Place.SENT, first.study_instance_uid, name, was=Place.INCOMING)
    core.edge.run("UPDATE instances SET place = 'sent' WHERE file_name = %(name)s", name=name)
    core.spool.path(
        Place.INCOMING, first.study_instance_uid, f"{first.sop_instance_uid}.{second.digest[:12]}.dcm"
    ).unlink()
    assert core.edge.send(second) == [0]
    core.edge.check_ledger([first, second])
