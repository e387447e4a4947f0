"""The sweep of each minute is bounded, and continues where the last run stopped."""

import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from conftest import MakeEdge
from support.forwarding import Forwarding, forwarding
from support.sweep_steps import PROMPT, found
from support.synthetic_instances import Instance, study_of
from support.waiting import wait_until

from gateway.database.session import Session
from gateway.database.tables import sweeps
from gateway.database.tables.sweeps import FileRow
from gateway.domain.instance import Place
from gateway.sweep import purge as purging
from gateway.sweep import run, walk
from gateway.sweep.context import Counts, DiskErrors, SweepContext
from gateway.sweep.purge import purge
from gateway.sweep.reconcile import reconcile
from gateway.sweep.run import VERBS
from gateway.sweep.slices import LIMITS, START, Part, sliced

COUNT = 7


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core, in this process, with a sweep without grace periods."""
    with forwarding(make_edge({"sweep": PROMPT})) as core:
        yield core


def jumping() -> Callable[[], float]:
    """Return a clock that goes on by 1000 s whenever it is read."""
    return partial(next, count(step=1000))


def hurried(core: Forwarding, *, dry: bool = False) -> SweepContext:
    """Return the context of a run in which each slice is over when it is asked for the first time."""
    return core.sweeping(dry=dry, sliced=True, clock=jumping())


def strays(core: Forwarding, place: str, amount: int = COUNT) -> list[Path]:
    """Put files without a row into that place, each in a study of its own."""
    made = []
    for number in range(amount):
        folder = core.edge.configuration.edge.data_root / place / f"1.2.{number}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"1.2.{number}.1.dcm").write_bytes(b"x")
        made.append(folder / f"1.2.{number}.1.dcm")
    wait_until(lambda: all(time.time() - path.stat().st_ctime > 0.02 for path in made), 5, "age")
    return made


def positions(core: Forwarding) -> dict[str, str]:
    """Return the stored positions by part."""
    return dict(core.edge.rows("SELECT part, position FROM sweep_cursors"))


@pytest.mark.parametrize("place", [Place.INCOMING, Place.SENT])
def test_each_run_does_a_slice_and_the_next_one_continues(core: Forwarding, place: Place) -> None:
    """Every file gets its turn, once, although no run has time for more than one."""
    strays(core, place)
    for number in range(COUNT):
        assert reconcile(hurried(core))["orphaned"] == 1
        assert set(core.edge.orphans()) == {f"1.2.{n}.1.dcm" for n in range(number + 1)}
    assert reconcile(hurried(core))["orphaned"] == 0


def test_what_is_owed_does_not_wait_for_what_is_stored(core: Forwarding) -> None:
    """Stored files have a slice of their own."""
    strays(core, Place.SENT)
    reconcile(hurried(core))
    strays(core, Place.QUEUED, 1)
    assert reconcile(hurried(core))["orphaned"] == 2


def test_a_file_that_comes_behind_the_position_is_found_in_the_next_pass(core: Forwarding) -> None:
    """A pass ends at the last file, and the next one begins at the first."""
    strays(core, Place.SENT, 3)
    reconcile(hurried(core))
    reconcile(hurried(core))
    strays(core, Place.SENT, 1)
    # one run each for the third file, for the end of its folder, for the end of the pass, for the new file
    assert [reconcile(hurried(core))["orphaned"] for _ in range(4)] == [1, 0, 0, 1]
    assert core.edge.log(outcome="pass_ended")


def test_a_run_with_time_does_everything(core: Forwarding) -> None:
    """A small spool is looked at whole in each run, and no position is stored."""
    strays(core, Place.SENT)
    assert reconcile(core.sweeping(sliced=True, clock=lambda: 0.0))["orphaned"] == COUNT
    assert positions(core) == {}


def test_a_run_of_an_operator_has_no_limit(core: Forwarding) -> None:
    """It begins at the first file, wherever the runs of each minute are, and stores no position."""
    strays(core, Place.SENT)
    reconcile(hurried(core))
    before = positions(core)
    assert before
    strays(core, Place.SENT, 1)
    told: list[str] = []
    unlimited = core.sweeping(clock=jumping(), progress=lambda part, _: told.append(part))
    assert reconcile(unlimited)["orphaned"] == COUNT
    assert Part.STORED_FILES in told
    assert positions(core) == before


def test_a_crash_between_slices_loses_nothing(core: Forwarding, monkeypatch: pytest.MonkeyPatch) -> None:
    """The position is stored after the slice's work, so the next run repeats the slice."""
    strays(core, Place.SENT)

    def die(*_: object) -> float:
        raise KeyboardInterrupt

    reconcile(hurried(core))
    with monkeypatch.context() as patched:
        patched.setattr("gateway.database.tables.sweeps.store_position", die)
        with pytest.raises(KeyboardInterrupt):
            reconcile(hurried(core))
    assert len(core.edge.orphans()) == 2
    for _ in range(COUNT):
        reconcile(hurried(core))
    assert len(core.edge.orphans()) == COUNT


def test_a_dry_run_moves_no_position(core: Forwarding) -> None:
    """It counts its slice only."""
    strays(core, Place.SENT)
    for _ in range(2):
        assert reconcile(hurried(core, dry=True))["orphaned"] == 1
    assert positions(core) == {}


def test_undelivered_rows_are_looked_at_in_slices(core: Forwarding) -> None:
    """Each missing file is counted once in a pass."""
    for instance in study_of(3):
        core.receive(instance)
    for path in core.edge.files().values():
        path.unlink()
    for _ in range(2):
        assert [reconcile(hurried(core))["files_missing"] for _ in range(4)] == [1, 1, 1, 0]


def settled_long_ago(core: Forwarding, instances: list[Instance]) -> None:
    """Receive them; they are delivered, and older than the retention, at times that differ."""
    for instance in instances:
        core.receive(instance)
    core.edge.run("DELETE FROM dramatiq.queue")
    core.edge.run("UPDATE instances SET received_at = received_at - interval '30 h'")
    core.edge.run(
        "UPDATE deliveries SET state = 'in_flight', claim_id = gen_random_uuid(), lease_until = now()"
    )
    core.edge.run(
        "UPDATE deliveries SET state = 'delivered', claim_id = NULL, lease_until = NULL,"
        " next_attempt_at = NULL, settled_at = now() - interval '30 h'"
    )


def test_purge_deletes_a_slice_and_continues(core: Forwarding, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instances that are kept are passed over, and looked at again in the next pass."""
    monkeypatch.setattr(purging, "FILES_PER_TRANSACTION", 2)
    instances = study_of(COUNT)
    settled_long_ago(core, instances)
    kept = instances[0].sop_instance_uid
    core.edge.run(
        "UPDATE deliveries SET state = 'pending', next_attempt_at = now() FROM instances i"
        " WHERE i.id = instance_id AND sop_instance_uid = %(kept)s",
        kept=kept,
    )
    assert [purge(hurried(core))["purged"] for _ in range(4)] == [1, 2, 2, 1]
    assert core.edge.rows("SELECT sop_instance_uid FROM instances") == [(kept,)]
    assert [Path(name).stem for name in core.edge.files()] == [kept]
    core.edge.run("UPDATE deliveries SET state = 'cancelled', settled_at = now() - interval '30 h'")
    assert sum(purge(hurried(core))["purged"] for _ in range(2)) == 1


@pytest.mark.parametrize(
    ("done", "seconds", "following"), [(50, 0.01, 500), (500, 1.0, 250), (250, 0.25, 500), (60, 9.0, 50)]
)
def test_a_transaction_of_a_purge_is_as_large_as_the_disk_is_fast(
    done: int, seconds: float, following: int
) -> None:
    """It should last half a second; it has 50 instances at least, and 500 at most."""
    assert purging.next_limit(done, seconds) == following


@pytest.mark.parametrize(("seconds", "limits"), [(0.01, [2, 3, 3]), (100.0, [2, 2, 2])])
def test_the_first_transaction_of_a_purge_is_small(
    core: Forwarding, monkeypatch: pytest.MonkeyPatch, seconds: float, limits: list[int]
) -> None:
    """The speed of the disk is not known yet. The following ones fit to it."""
    monkeypatch.setattr(purging, "FEWEST_PER_TRANSACTION", 2)
    monkeypatch.setattr(purging, "FILES_PER_TRANSACTION", 3)
    settled_long_ago(core, study_of(COUNT))
    asked = []
    lock_purgeable = sweeps.lock_purgeable

    def noted(session: Session, *, retention: timedelta, after: str, limit: int) -> tuple[list[FileRow], str]:
        asked.append(limit)
        return lock_purgeable(session, retention=retention, after=after, limit=limit)

    monkeypatch.setattr(sweeps, "lock_purgeable", noted)
    clock = partial(next, count(step=seconds))
    assert purge(core.sweeping(clock=clock))["purged"] == COUNT
    assert asked[:3] == limits


def test_the_other_verbs_run_between_the_slices_of_a_purge(
    core: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run repeats all verbs while purge has more to delete."""
    monkeypatch.setattr(purging, "FILES_PER_TRANSACTION", 2)
    settled_long_ago(core, study_of(COUNT))
    ran: list[str] = []

    def noted(verb: str, context: SweepContext) -> Counts:
        ran.append(verb)
        return VERBS[verb](context)

    monkeypatch.setattr(run, "VERBS", {verb: partial(noted, verb) for verb in VERBS})
    monkeypatch.setattr(run, "PURGING_SECONDS", 1e9)
    run.each_minute(hurried(core))
    assert core.edge.one("SELECT count(*) FROM instances") == 0
    assert ran == [*VERBS] * 4


def test_a_run_ends_within_its_minute(core: Forwarding, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although there is more to purge."""
    monkeypatch.setattr(purging, "FILES_PER_TRANSACTION", 2)
    settled_long_ago(core, study_of(COUNT))
    run.each_minute(hurried(core))
    assert core.edge.one("SELECT count(*) FROM instances") == COUNT - 2


def test_empty_folders_are_removed_in_slices(core: Forwarding) -> None:
    """One for each run here."""
    for path in strays(core, Place.SENT, 3):
        path.unlink()
        os.utime(path.parent, (0, 0))
    assert [purge(hurried(core))["folders_removed"] for _ in range(4)] == [1, 1, 1, 0]


def test_a_walk_visits_every_file_once_from_any_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In steps of any size, from each position that a step returned."""
    wanted = []
    for place in ("incoming", "queued"):
        for study in ("1.10", "1.2", "1.2.3"):
            (tmp_path / place / study).mkdir(parents=True)
            for name in ("1.dcm", "10.dcm", "2.dcm"):
                (tmp_path / place / study / name).write_bytes(b"")
                wanted.append(f"{place}/{study}/{name}")
    for files, folders in ((1, 100), (2, 100), (4, 1), (100, 2), (100, 100)):
        monkeypatch.setattr(walk, "BATCH", files)
        monkeypatch.setattr(walk, "FOLDERS_IN_STEP", folders)
        visited: list[str] = []
        position = START
        while True:
            steps = walk.old_files(
                tmp_path, ("incoming", "queued"), after=position, grace_seconds=-1, disk_errors=DiskErrors()
            )
            step = next(steps, None)
            if step is None:
                break
            position = step.position
            visited += [path.relative_to(tmp_path).as_posix() for path in step.old]
        assert visited == wanted


def test_a_name_that_no_row_can_have_is_refused(core: Forwarding) -> None:
    """It is counted, and the run goes on."""
    [path] = strays(core, Place.SENT, 1)
    Path(os.fsdecode(os.fsencode(path.parent) + b"/\xff.dcm")).write_bytes(b"x")
    assert found(reconcile(core.sweeping())) == {"orphaned": 1, "files_refused": 1}


@pytest.mark.parametrize("works", [False, True])
def test_a_slice_ends_by_its_clock(core: Forwarding, *, works: bool) -> None:
    """And not before; it may last longer when there is something to do."""
    limit = LIMITS[Part.STORED_FILES].working if works else LIMITS[Part.STORED_FILES].looking
    times = iter((0.0, 0.0, limit - 0.01, limit))
    context = core.sweeping(sliced=True, clock=partial(next, times))
    with sliced(context, Part.STORED_FILES) as piece:
        if works:
            piece.has_work()
        assert [piece.is_over for _ in range(3)] == [False, False, True]
        piece.position = "sent/1.2"
    assert context.unfinished == {Part.STORED_FILES}
    assert positions(core) == {Part.STORED_FILES: "sent/1.2"}


def test_due_deliveries_are_looked_at_in_slices(core: Forwarding, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice goes on while it finds lost messages, and ends early while it finds none."""
    monkeypatch.setattr("gateway.sweep.reconcile.DELIVERIES", 2)
    for instance in study_of(3):
        core.receive(instance)
    core.edge.run("UPDATE deliveries SET next_attempt_at = now() - interval '1 hour'")
    first = "SELECT min(id) FROM deliveries"
    core.edge.run(f"DELETE FROM dramatiq.queue WHERE delivery_id >= ({first}) + 4")  # noqa: S608
    now = core.sweeping(sliced=True, clock=partial(next, count(step=1)))
    assert [reconcile(now)["messages_sent"] for _ in range(3)] == [0, 0, 2]
    core.edge.run("DELETE FROM dramatiq.queue")
    assert [reconcile(now)["messages_sent"] for _ in range(2)] == [6, 0]
