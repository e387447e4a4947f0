"""What dead and frozen receivers, a power cut, or PostgreSQL's refusal left is registered by others."""

import errno
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from conftest import MakeEdge
from support.edge_setup import children
from support.forwarding import Forwarding, ask, forwarding, workers_of
from support.receptions import envelope_of, meta_of
from support.sweep_steps import PROMPT
from support.synthetic_instances import Instance, result_of, study_of
from support.versions import operate
from support.waiting import wait_until

from gateway.domain.instance import Place
from gateway.register import recovery as module
from gateway.register import unregistered
from gateway.register.recovery import Recovery
from gateway.register.unregistered import Unregistered, backlog, refused_count
from gateway.spool.envelope import ENVELOPE_BYTES
from gateway.spool.spool import Spool
from gateway.sweep.expire import expire, is_held_back
from gateway.sweep.purge import purge
from gateway.sweep.reconcile import reconcile

pytestmark = [pytest.mark.guarantee("G1"), pytest.mark.guarantee("G6")]
NO_UID = "not-a-uid"
"""A Study Instance UID that no sender could give, and that a CHECK of PostgreSQL refuses."""


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core without its processes, and with a sweep without grace periods."""
    with forwarding(make_edge({"sweep": PROMPT})) as core:
        yield core


def count(core: Forwarding) -> int:
    """Return the number of instances with a row."""
    return int(core.edge.one("SELECT count(*) FROM instances"))


def links(core: Forwarding) -> list[Path]:
    """Return the `.part` links of all receivers, and those that PostgreSQL refused."""
    return sorted((core.spool.root / "partial").rglob("*.part"))


def die_as_receiver(core: Forwarding) -> None:
    """Unlock the receiver's folder, as its death does."""
    core.spool.close_receiver()
    core.spool.open_receiver()


def link_of(one: Unregistered) -> Path:
    """Return its link."""
    assert one.link is not None
    return one.link


def lose_link(one: Unregistered) -> None:
    """Remove the link, as a power cut may."""
    link_of(one).unlink()


def swept(core: Forwarding, **wanted: int) -> None:
    """Run the sweep until its counts have that sum: the age of a file is measured from its last change."""
    found = dict.fromkeys(wanted, 0)

    def sweep() -> bool:
        counts = reconcile(core.sweeping())
        for name in wanted:
            found[name] += counts[name]
        return found == wanted

    wait_until(sweep, 30, f"the sweep to count {wanted}")


# ---- a dead receiver -----------------------------------------------------------------------------


def test_the_sweep_registers_what_a_dead_receiver_left(core: Forwarding) -> None:
    """Once; its folder goes with the next run."""
    left = study_of(5)
    receptions = [core.received(each) for each in left]
    folder = link_of(receptions[0]).parent
    die_as_receiver(core)
    assert reconcile(core.sweeping())["registered"] == 5
    assert reconcile(core.sweeping())["registered"] == 0
    core.edge.check_ledger(left)
    assert links(core) == []
    assert not folder.exists()


def test_what_a_living_receiver_has_is_left_to_it(core: Forwarding) -> None:
    """Its links are younger than OLD_LINK_SECONDS."""
    core.received(Instance())
    assert reconcile(core.sweeping())["registered"] == 0
    assert len(links(core)) == 1


@pytest.mark.parametrize("kind", ["unfinished", "torn", "no final name"])
def test_each_kind_of_part_of_a_dead_receiver(core: Forwarding, kind: str) -> None:
    """Only what is complete was acknowledged, and only that is registered."""
    instance = Instance()
    data = instance.data_set()
    envelope = envelope_of(
        data, sop_instance_uid=instance.sop_instance_uid, study_instance_uid=instance.study_instance_uid
    )
    meta = meta_of(envelope)
    part = core.spool.begin()
    part.write(meta)
    part.write(data[:-4] + b"torn" if kind == "torn" else data)
    if kind != "unfinished":
        part.seal(envelope.pack(), len(meta) - ENVELOPE_BYTES)
    part.close()
    die_as_receiver(core)
    counts = reconcile(core.sweeping())
    assert links(core) == []
    assert count(core) == counts["registered"] == (kind == "no final name")
    if kind == "no final name":
        core.edge.check_ledger([instance])
    damaged = list((core.spool.root / "damaged").rglob("*.dcm"))
    assert len(damaged) == (kind == "torn")


def test_one_file_that_cannot_be_read_keeps_no_other_from_registration(
    core: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk refuses the first one; it is registered when the disk answers again."""
    instances = study_of(4)
    receptions = [core.received(each) for each in instances]
    die_as_receiver(core)
    bad = link_of(receptions[0])
    fsync = os.fsync
    broken = True

    def failing(descriptor: int) -> None:
        if broken and bad.exists() and os.path.samestat(os.fstat(descriptor), bad.stat()):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    counts = reconcile(core.sweeping())
    assert (counts["registered"], counts["files_refused"]) == (3, 1)
    core.edge.check_ledger(instances[1:])
    assert links(core) == [bad]
    broken = False
    assert reconcile(core.sweeping())["registered"] == 1
    core.edge.check_ledger(instances)


def test_a_link_that_goes_while_it_is_examined_makes_no_file_damaged(
    core: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process registered it and removed the link between two lines."""
    instance = Instance()
    one = core.received(instance)
    die_as_receiver(core)
    link = link_of(one)
    final_name = unregistered.final_name

    def registered_meanwhile(*arguments: object) -> Path | None:
        path = final_name(*arguments)  # type: ignore[arg-type]
        core.registration().register_one(one)
        assert not link.exists()
        return path

    monkeypatch.setattr(module, "final_name", registered_meanwhile)
    assert list(Recovery(core.spool, grace_seconds=0).of_the_dead()) == []
    core.edge.check_ledger([instance])
    assert not list((core.spool.root / "damaged").rglob("*.dcm"))


# ---- a frozen receiver ---------------------------------------------------------------------------


def test_old_links_of_a_living_receiver_are_registered(
    core: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is frozen, or far behind. When it goes on, it finds them registered."""
    instances = study_of(3)
    receptions = [core.received(each) for each in instances]
    being_written = core.spool.begin()
    being_written.write(b"half a data set")
    monkeypatch.setattr(module, "OLD_LINK_SECONDS", 0.0)
    assert reconcile(core.sweeping())["registered"] == 3
    core.edge.check_ledger(instances)
    assert links(core) == [Path(being_written.path)]
    assert core.registration().register(receptions) == []
    assert count(core) == 3
    assert core.edge.one("SELECT count(*) FROM repeats") == 0
    being_written.discard()


def test_the_sweep_registers_for_a_receiver_that_is_stopped(
    make_edge: MakeEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP between the answer and the commit; the receiver goes on later and changes nothing."""
    monkeypatch.setattr(module, "OLD_LINK_SECONDS", 0.0)
    edge = make_edge({"edge": {"receivers": 1}, "sweep": PROMPT})
    edge.run(
        "CREATE FUNCTION wait_here() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NEW; END $$"
    )
    edge.run("CREATE TRIGGER wait_here BEFORE INSERT ON instances FOR EACH ROW EXECUTE FUNCTION wait_here()")
    [receiver] = children(edge.serve().pid)
    instances = study_of(6)
    with edge.database.transaction() as session:
        session.script("SELECT pg_advisory_xact_lock(4711)")
        assert edge.send(*instances) == [0] * 6
        os.kill(receiver, signal.SIGSTOP)
    try:
        # PostgreSQL does this after a minute: idle_in_transaction_session_timeout.
        with edge.database.statement() as session:
            session.script(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'mini-pacs receiver' AND datname = current_database()"
            )
        with forwarding(edge) as core:
            swept(core, registered=6)
    finally:
        os.kill(receiver, signal.SIGCONT)
    edge.check_ledger(instances)
    wait_until(lambda: backlog(edge.spool, 1).count == 0, 20, "the receiver to find them registered")
    more = study_of(2)
    assert edge.send(*more) == [0, 0]
    edge.check_ledger([*instances, *more])
    assert edge.one("SELECT count(*) FROM deliveries") == 16
    assert edge.one("SELECT count(*) FROM repeats") == 0


def test_no_deadline_expires_while_an_old_reception_is_unregistered(core: Forwarding) -> None:
    """The result came in time, and its receiver is frozen: nobody else is asked."""
    with workers_of(core):
        source = Instance()
        worker = ask(core, source)
        result = core.received(result_of(source), worker=worker)
        minute_ago = time.time() - 60
        os.utime(result.path, (minute_ago, minute_ago))
        core.overdue()
        assert is_held_back(core.spool)
        assert expire(core.sweeping()) == {"redispatched": 0, "timed_out": 0}
        assert core.registration().register([result]) == []
        assert not is_held_back(core.spool)
        assert expire(core.sweeping()) == {"redispatched": 0, "timed_out": 0}
        assert core.edge.rows("SELECT state::text FROM expected_results") == [("arrived",)]


# ---- a power cut ---------------------------------------------------------------------------------


def test_a_file_without_link_and_row_is_registered(core: Forwarding) -> None:
    """The power cut took the `.part` link, and PostgreSQL had no row yet."""
    instances = study_of(3)
    for each in instances:
        lose_link(core.received(each))
    wait_until(lambda: reconcile(core.sweeping(dry=True))["registered"] == 3, 30, "a dry run to find them")
    assert count(core) == 0
    swept(core, registered=3)
    core.edge.check_ledger(instances)
    assert core.edge.orphans() == []
    assert reconcile(core.sweeping())["registered"] == 0


def test_a_version_without_link_and_row_is_registered_under_another_name(core: Forwarding) -> None:
    """The row of the first version has the plain name."""
    first = Instance()
    core.receive(first)
    core.spool.move(Place.SENT, first.study_instance_uid, f"{first.sop_instance_uid}.dcm")
    core.edge.run("UPDATE instances SET place = 'sent'")
    version = Instance(first.sop_instance_uid, first.study_instance_uid, payload=b"\x07\x08" * 64)
    lose_link(core.received(version))
    swept(core, registered=1)
    core.edge.check_ledger([first, version])


def test_a_torn_file_without_link_and_row_goes_to_damaged(core: Forwarding) -> None:
    """Its envelope is finished, its bytes are not those of the envelope: it is kept for good, and shown."""
    instance = Instance()
    one = core.received(instance)
    lose_link(one)
    with one.path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"torn")
    reconcile(core.sweeping(dry=True))
    assert one.path.exists(), "a dry run changes nothing"

    def is_gone() -> bool:
        reconcile(core.sweeping())
        return not one.path.exists()

    wait_until(is_gone, 30, "the sweep to set it aside")
    assert count(core) == 0
    [kept] = (core.spool.root / "damaged").rglob("*.dcm")
    assert instance.sop_instance_uid in kept.name
    assert core.edge.log(outcome="damaged", sop_instance_uid=instance.sop_instance_uid)
    purge(core.sweeping())
    assert kept.exists()


# ---- PostgreSQL refuses --------------------------------------------------------------------------


def with_poison(core: Forwarding) -> tuple[list[Instance], list[Unregistered], Unregistered]:
    """Return a batch of 64 receptions, one of which PostgreSQL refuses."""
    instances = study_of(63)
    receptions = [core.received(each) for each in instances]
    poison = core.received(Instance(study_instance_uid=NO_UID))
    return instances, [*receptions[:31], poison, *receptions[31:]], poison


def check_is_set_aside(core: Forwarding, poison: Unregistered) -> None:
    """Check that file and link of a refused reception are kept, and that it is shown."""
    refused = core.spool.root / "partial" / "refused" / f"{poison.envelope.reception_id.hex}.part"
    failed = core.spool.path(Place.FAILED, NO_UID, f"{poison.envelope.sop_instance_uid}.dcm")
    assert failed.samefile(refused)
    assert refused_count(core.spool) == 1
    assert backlog(core.spool, 10).count == 0
    assert core.edge.log(outcome="not_registrable", sop_instance_uid=poison.envelope.sop_instance_uid)


def test_poison_in_a_batch_of_64_is_set_aside(core: Forwarding) -> None:
    """The other 63 are registered at once; it is refused three times, shown, and never purged."""
    instances, batch, poison = with_poison(core)
    registration = core.registration()
    left = registration.register(batch)
    core.edge.check_ledger(instances)
    assert left == [poison]
    assert registration.register(left) == left
    assert registration.register(left) == []
    check_is_set_aside(core, poison)
    assert not is_held_back(core.spool), "no deadline waits for it"
    assert "PostgreSQL refuses to register" in " ".join(operate("status").split())
    core.edge.run("UPDATE instances SET received_at = now() - interval '1 year'")
    for path in (*core.spool.root.rglob("*.dcm"), *core.spool.root.rglob("*.part")):
        os.utime(path, (0, 0))
    for _ in range(2):
        reconcile(core.sweeping())
        purge(core.sweeping())
    check_is_set_aside(core, poison)


def test_the_sweep_sets_poison_aside_too(core: Forwarding) -> None:
    """With a link of a dead receiver, and without any link."""
    _, _, poison = with_poison(core)
    die_as_receiver(core)
    reconcile(core.sweeping())
    check_is_set_aside(core, poison)
    assert count(core) == 63
    lose_link(core.received(Instance(study_instance_uid=NO_UID)))

    def is_refused() -> bool:
        reconcile(core.sweeping())
        return refused_count(core.spool) == 2

    wait_until(is_refused, 30, "the second one to be set aside")


def test_poison_is_tried_again_at_each_start(core: Forwarding) -> None:
    """A later start may register it, for example with a version that knows better."""
    _, batch, poison = with_poison(core)
    registration = core.registration()
    left: Sequence[Unregistered] = batch
    while left:
        left = registration.register(left)
    core.edge.serve()
    wait_until(
        lambda: len(core.edge.log(outcome="not_registrable")) >= 3, 20, "both receivers to try it again"
    )
    core.edge.scp.stop()
    check_is_set_aside(core, poison)
    core.edge.run("ALTER TABLE instances DROP CONSTRAINT instances_study_instance_uid_is_a_uid")
    core.edge.serve()
    wait_until(lambda: refused_count(core.spool) == 0, 20, "its registration")
    assert count(core) == 64
    core.edge.scp.stop()
    core.edge.heal()
    [file] = core.spool.root.rglob(f"{poison.envelope.sop_instance_uid}.dcm")
    assert file.parent.parent.name == "incoming"
    assert core.edge.one("SELECT count(*) FROM deliveries") == 128


def test_a_crash_while_poison_is_set_aside_loses_nothing(core: Forwarding) -> None:
    """The process died between the move of the link and the move of the file."""
    poison = core.received(Instance(study_instance_uid=NO_UID))
    folder = core.spool.root / "partial" / "refused"
    folder.mkdir()
    link_of(poison).rename(folder / f"{poison.envelope.reception_id.hex}.part")
    other = Spool(core.spool.root)
    [found] = Recovery(other, grace_seconds=0).of_the_refused()
    registration = core.registration()
    left: Sequence[Unregistered] = [found]
    while left:
        left = registration.register(left)
    check_is_set_aside(core, poison)
