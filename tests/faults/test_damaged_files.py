"""A damaged file whose delivery is open: it is kept in damaged/, shown, and never deleted by the sweep."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import MakeEdge
from support.forwarding import Forwarding, forwarding
from support.sweep_steps import PROMPT, claim, found
from support.synthetic_instances import Instance
from support.waiting import wait_until

from gateway.database.tables.overview import overview
from gateway.diagnosis.findings import findings
from gateway.diagnosis.spool import Space
from gateway.domain.instance import Place
from gateway.spool.part10_file import holds
from gateway.spool.places import DAMAGED, ORPHANED
from gateway.sweep.context import Counts, SweepContext
from gateway.sweep.purge import purge
from gateway.sweep.reconcile import reconcile

pytestmark = [pytest.mark.guarantee("G2"), pytest.mark.guarantee("G6")]


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core, in this process, with a sweep without grace periods."""
    with forwarding(make_edge({"sweep": PROMPT})) as core:
        yield core


def old(core: Forwarding, *, dry: bool = False) -> SweepContext:
    """Return a sweep that takes everything as older than the retention."""
    sections = core.sweeping(dry=dry)
    sweep = sections.configuration.sweep.model_copy(update={"retention_hours": 1e-9})
    return replace(sections, configuration=sections.configuration.model_copy(update={"sweep": sweep}))


def healed(core: Forwarding) -> Counts:
    """Run reconcile and purge when the file is older than every grace period; return their counts."""
    done: Counts = {}

    def look() -> bool:
        counts = found(reconcile(core.sweeping())) | found(purge(old(core)))
        counts = {
            name: count for name, count in counts.items() if name not in {"files_missing", "messages_sent"}
        }
        done.update({name: done.get(name, 0) + count for name, count in counts.items()})
        return not counts and bool(done)

    wait_until(look, 5, "the sweep to have done something and to be done")
    return done


def die(core: Forwarding, instance: Instance) -> None:
    """Make its delivery to the PACS dead, as if the process ended before it moved the file to failed/."""
    claim(core, instance, lease="1 s")
    core.edge.run(
        "UPDATE deliveries SET state = 'dead', claim_id = NULL, lease_until = NULL, settled_at = now()"
        " WHERE state = 'in_flight'"
    )
    core.edge.run("UPDATE instances SET place = 'failed'")


def only_file(core: Forwarding) -> Path:
    """Return the only kept file."""
    [path] = core.edge.files().values()
    return path


def broken(path: Path, how: str) -> bytes:
    """Overwrite the file with other bytes than were received; return them."""
    raw = path.read_bytes()
    changed = {
        "bits": raw[:-1] + bytes([raw[-1] ^ 1]),
        "shorter": raw[:-10],
        "no file meta": raw[132:],
        "empty": b"",
    }[how]
    path.write_bytes(changed)
    return changed


@pytest.mark.parametrize("how", ["bits", "shorter", "no file meta", "empty"])
def test_a_damaged_file_with_an_open_delivery_is_never_deleted(core: Forwarding, how: str) -> None:
    """A crash before the move to failed/ is followed by reconcile and purge, repeatedly and much later."""
    instance = Instance()
    core.receive(instance)
    die(core, instance)
    raw = broken(only_file(core), how)
    assert found(reconcile(core.sweeping(dry=True))).get("damaged", 1) == 1
    assert healed(core) == {"damaged": 1}
    path = only_file(core)
    assert path.relative_to(core.spool.root).parts == (DAMAGED, instance.study_instance_uid, path.name)
    assert path.read_bytes() == raw
    [line] = core.edge.log(outcome="damaged")
    assert str(path) in line["error"]
    assert "damaged/" in core.edge.log(outcome="file_missing")[-1]["error"]


@pytest.mark.parametrize("name", ["plain", "renamed"])
def test_purge_keeps_an_orphan_that_may_be_the_only_copy(core: Forwarding, name: str) -> None:
    """The orphan was set aside by an earlier release."""
    instance = Instance()
    core.receive(instance)
    die(core, instance)
    path = only_file(core)
    raw = broken(path, "bits")
    folder = core.spool.root / ORPHANED / path.parent.name
    folder.mkdir()
    path.rename(folder / (path.name if name == "plain" else f"{path.stem}~7.dcm"))
    assert purge(old(core, dry=True))["damaged"] == 1
    assert healed(core) == {"damaged": 1}
    kept = only_file(core)
    assert kept.relative_to(core.spool.root).parts[0] == DAMAGED
    assert kept.read_bytes() == raw


def test_two_damaged_files_of_one_name_are_both_kept(core: Forwarding) -> None:
    """Both are damaged; neither replaces the other."""
    instance = Instance()
    core.receive(instance)
    die(core, instance)
    path = only_file(core)
    other = core.spool.path(Place.SENT, instance.study_instance_uid, path.name)
    other.parent.mkdir()
    other.write_bytes(path.read_bytes()[:-2])
    contents = {broken(path, "bits"), other.read_bytes()}
    assert healed(core) == {"damaged": 2}
    paths = core.edge.files().values()
    assert {path.relative_to(core.spool.root).parts[0] for path in paths} == {DAMAGED}
    assert {path.read_bytes() for path in paths} == contents


def test_a_repeat_replaces_a_damaged_file(core: Forwarding) -> None:
    """The received bytes are delivered; the damaged file stays until an operator removes it."""
    instance = Instance()
    core.receive(instance)
    die(core, instance)
    broken(only_file(core), "bits")
    healed(core)
    core.edge.serve()
    assert core.edge.send(instance) == [0]
    assert core.edge.delivery(instance)["state"] == "pending"
    by_place = {name.split("/")[0]: path for name, path in core.edge.files().items()}
    assert set(by_place) == {Place.INCOMING, DAMAGED}
    assert holds(by_place[Place.INCOMING], len(instance.data_set()), instance.digest)
    assert not reconcile(core.sweeping())["damaged"]
    purge(old(core))
    assert by_place[DAMAGED].exists()


def test_a_damaged_file_whose_digest_is_right_again_is_moved_back(core: Forwarding) -> None:
    """An operator restored it from a backup, or a later release can read it."""
    instance = Instance()
    core.receive(instance)
    die(core, instance)
    right = only_file(core).read_bytes()
    broken(only_file(core), "bits")
    healed(core)
    only_file(core).write_bytes(right)
    assert healed(core) == {"brought_back": 1}
    assert only_file(core).parent.parent.name == Place.FAILED
    core.edge.check_ledger([instance])


def test_the_next_sweep_ends_an_interrupted_move_to_damaged(core: Forwarding) -> None:
    """A crash between the link in damaged/ and the unlink leaves one file with two names."""
    instance = Instance()
    core.receive(instance)
    die(core, instance)
    path = only_file(core)
    raw = broken(path, "bits")
    folder = core.spool.root / DAMAGED / path.parent.name
    folder.mkdir(parents=True)
    os.link(path, folder / path.name)
    assert healed(core) == {"damaged": 1}
    assert only_file(core) == folder / path.name
    assert only_file(core).read_bytes() == raw


def test_a_damaged_file_without_an_open_delivery_is_an_orphan(core: Forwarding) -> None:
    """Its delivery is delivered: purge deletes the file after the retention."""
    instance = Instance()
    core.receive(instance)
    core.edge.run("UPDATE deliveries SET state = 'cancelled', settled_at = now()")
    core.edge.run("UPDATE instances SET place = 'failed'")
    broken(only_file(core), "bits")
    wait_until(lambda: reconcile(core.sweeping())["orphaned"], 5, "the grace to be over")
    wait_until(lambda: purge(old(core))["orphans_purged"], 5, "the retention to be over")
    assert not core.edge.files()


def test_status_names_a_damaged_file_and_the_command_for_it(core: Forwarding) -> None:
    """`mini-pacs status --check` fails as long as damaged/ holds a file."""
    with core.edge.database.statement() as session:
        view = overview(session)
    well = Space(1, 0, {DAMAGED: 0}, 100, "/spool")
    assert not [f for f in findings(view, well) if DAMAGED in f.text]
    [finding] = [f for f in findings(view, replace(well, files={DAMAGED: 3})) if DAMAGED in f.text]
    assert finding.problem
    assert "3 files in /spool/damaged" in finding.text
    assert "mini-pacs send /spool/damaged/" in finding.text
