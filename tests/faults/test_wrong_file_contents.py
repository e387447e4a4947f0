"""A spool file with the wrong bytes is never delivered; the received bytes are found and put back."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import MakeEdge
from support.forwarding import Forwarding, forwarding, keep
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
"""More than is read or sent at once."""


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core without its processes; the sweep has no grace period."""
    edge = make_edge(
        {
            "forwarder": {"max_retries": 1},
            "sweep": {"orphan_grace_seconds": 0.01, "reconcile_grace_seconds": 0.01},
        }
    )
    with forwarding(edge) as core:
        yield core


def only_file(core: Forwarding) -> Path:
    """Return the only kept file."""
    [path] = core.edge.files().values()
    return path


def rot(path: Path) -> None:
    """Change one bit of the last byte, as a failing disk does; size and name stay."""
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


# ---- forwarding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"\x01\x02" * 512, LARGE], ids=["one fragment", "many"])
def test_a_file_whose_bits_changed_is_never_delivered(core: Forwarding, pacs: Peer, payload: bytes) -> None:
    """G3: the peer never gets its last bytes.

    The delivery is shown with the reason, and the peer's breaker is not affected.
    """
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


def test_an_instance_after_an_aborted_one_uses_a_new_association(core: Forwarding, pacs: Peer) -> None:
    """The association of the aborted send is not used again."""
    rotten, sound = Instance(payload=LARGE), Instance(payload=LARGE)
    first = core.owed(rotten)
    rot(only_file(core))
    second = core.owed(sound)
    assert forward_to_pacs(core.context, first) is Outcome.LOST_FILE
    assert forward_to_pacs(core.context, second) is Outcome.DELIVERED
    assert [taken.digest for taken in pacs.taken] == [sound.digest]


@pytest.mark.parametrize("payload", [b"\x01\x02" * 512, LARGE], ids=["one fragment", "many"])
def test_the_file_with_the_digest_of_its_row_is_sent(core: Forwarding, pacs: Peer, payload: bytes) -> None:
    """Another version of the UID, of equal length, is at the path that the first version's row names."""
    first = Instance(payload=payload)
    second = Instance(
        first.sop_instance_uid, first.study_instance_uid, payload=b"\x03\x04" * (len(payload) // 2)
    )
    delivery = core.owed(first)
    name = f"{first.sop_instance_uid}.dcm"
    assert core.spool.move(Place.QUEUED, first.study_instance_uid, name, was=Place.INCOMING)
    part = core.spool.begin()
    raw = core.edge.files()[f"queued/{name}"].read_bytes()
    part.write(raw.replace(first.data_set(), second.data_set()))
    keep(part, second.study_instance_uid, [name])
    assert forward_to_pacs(core.context, delivery) is Outcome.DELIVERED
    assert [taken.digest for taken in pacs.taken] == [first.digest]
    part.discard()


# ---- orphaned/ -------------------------------------------------------------------------------------


def late_commit(core: Forwarding, instance: Instance) -> Path:
    """Commit the row after reconcile moved its file to orphaned/; return the path there."""
    core.receive(instance)
    path = only_file(core)
    target = core.edge.configuration.edge.data_root / ORPHANED / path.parent.name / path.name
    target.parent.mkdir()
    return path.rename(target)


def old(core: Forwarding) -> SweepContext:
    """Return a sweep that takes everything as older than the retention."""
    sections = core.sweeping()
    sweep = sections.configuration.sweep.model_copy(update={"retention_hours": 1e-9})
    return replace(sections, configuration=sections.configuration.model_copy(update={"sweep": sweep}))


def test_purge_moves_an_orphan_with_an_open_delivery_back(core: Forwarding) -> None:
    """G2: while a delivery is open, the orphan is never deleted; it is moved to where its row says."""
    instance = Instance()
    late_commit(core, instance)
    assert purge(replace(old(core), dry=True))["orphans_returned"] == 1
    counts = purge(old(core))
    assert (counts["orphans_returned"], counts["orphans_purged"]) == (1, 0)
    assert only_file(core).parent.parent.name == Place.INCOMING
    assert purge(old(core))["orphans_returned"] == 0
    core.edge.check_ledger([instance])


def test_reconcile_moves_a_file_with_an_open_delivery_back(core: Forwarding) -> None:
    """Its next run does it, long before the retention ends, and also for a file with a changed name."""
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


def test_an_orphan_with_the_digest_of_its_row_replaces_a_wrong_file(core: Forwarding) -> None:
    """The wrong file is moved to orphaned/, and purged after the retention."""
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


def test_an_orphan_with_a_known_name_only_is_purged_after_the_retention(core: Forwarding) -> None:
    """The row's own file is in its place, so the orphan is a second copy, or torn."""
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


def test_reconcile_chooses_the_file_by_its_digest(core: Forwarding) -> None:
    """There are three files of one name, and the wrong one is where the row says."""
    instance = Instance()
    core.receive(instance)
    path = only_file(core)
    for place in (Place.QUEUED, Place.SENT):
        other = core.spool.path(place, instance.study_instance_uid, path.name)
        other.parent.mkdir()
        other.write_bytes(path.read_bytes())
        rot(other)
    core.edge.run("UPDATE instances SET place = 'sent'")

    def is_repaired() -> bool:
        """Reconcile; each file is looked at when its own grace is over."""
        reconcile(core.sweeping())
        return [name for name in core.edge.files() if not name.startswith(ORPHANED)] == [f"sent/{path.name}"]

    wait_until(is_repaired, 5, "one file, where the row says")
    sent = core.spool.path(Place.SENT, instance.study_instance_uid, path.name)
    assert sent.read_bytes().endswith(instance.data_set())
    assert len(core.edge.orphans()) == 2


# ---- repeats ---------------------------------------------------------------------------------------


def lose(core: Forwarding, instance: Instance) -> Path:
    """Remove its file after it was delivered; return its path."""
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
def test_a_repeat_is_not_discarded_because_a_file_has_its_name(
    core: Forwarding, where: str, size: int | None
) -> None:
    """G1: Success means that the bytes are kept; a file of that name with other bytes does not count."""
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
    stored = core.spool.path(Place(place), kept.parent.name, name).read_bytes()
    assert stored.endswith(instance.data_set())
    assert len(stored) == len(raw)


def test_a_repeat_of_a_lost_second_version_does_not_take_the_name_of_the_first(core: Forwarding) -> None:
    """The first version was moved, so its name is free in incoming/, but still reserved for it."""
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
