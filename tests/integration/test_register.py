"""Registration behind the answer: once, in order, and with the names of the files right."""

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
from conftest import MakeEdge
from support.forwarding import Forwarding, at_once, forwarding
from support.peers import Peer
from support.synthetic_instances import Instance, new_uid, result_of, study_of
from support.versions import digests
from support.waiting import wait_until

from gateway.database.session import Session
from gateway.database.tables import instances
from gateway.database.tables.instances import ReceivedInstance, RegisteredInstance
from gateway.domain.instance import Kind, Place, file_names
from gateway.domain.routing import Route, Targets
from gateway.errors import DatabaseRefusedError, DatabaseUnavailableError, OutcomeUnknownError, SchemaError
from gateway.forward.deliver import forward_to_pacs
from gateway.register import registration
from gateway.register.reception_row import received_of
from gateway.register.recovery import Recovery
from gateway.register.unregistered import Unregistered, final_name, refused_count
from gateway.spool.spool import Spool
from gateway.sweep.reconcile import reconcile

pytestmark = [pytest.mark.guarantee("G1"), pytest.mark.guarantee("G4")]


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core without its processes, and with a sweep without grace periods."""
    changes = {"sweep": {"orphan_grace_seconds": 0.001, "reconcile_grace_seconds": 0.001}}
    with forwarding(make_edge(changes)) as core:
        yield core


def version_of(instance: Instance, number: int) -> Instance:
    """Return another version of an instance: the same UIDs, other bytes."""
    return Instance(
        instance.sop_instance_uid, instance.study_instance_uid, payload=bytes([number, number]) * 64
    )


def register(core: Forwarding, *receptions: Unregistered) -> None:
    """Register until nothing is to be tried again."""
    registration = core.registration()
    left: Sequence[Unregistered] = receptions
    for _ in range(10):
        if left:
            left = registration.register(left)
    assert not left
    assert all(one.is_done for one in receptions)


def again(one: Unregistered) -> Unregistered:
    """Return the reception as another process finds it that examined the link before it was removed."""
    assert one.link is not None
    return Unregistered(one.envelope, one.file, one.part)


def everything(core: Forwarding) -> list[object]:
    """Return all rows that a registration writes."""
    return [
        core.edge.rows(f"SELECT t::text FROM {table} t ORDER BY 1")  # noqa: S608  names of this file
        for table in ("instances", "deliveries", "repeats", "dramatiq.queue", "result_sources")
    ]


def check_files(core: Forwarding) -> None:
    """Check that each row has its file with its bytes, that no other file is there, and no link."""
    rows = core.edge.rows("SELECT place::text, file_name, encode(sha256, 'hex') FROM instances")
    files = core.edge.files(partial=True)
    assert set(files) == {f"{place}/{name}" for place, name, _ in rows}


def kept_bytes(core: Forwarding, instance: Instance) -> bytes:
    """Return the end of the file of this version: its data set."""
    [(place, name)] = core.edge.rows(
        "SELECT place::text, file_name FROM instances WHERE encode(sha256, 'hex') = %(digest)s",
        digest=instance.digest,
    )
    path = core.spool.find(Place(place), instance.study_instance_uid, name)
    return path.read_bytes()[-len(instance.data_set()) :]


# ---- once ----------------------------------------------------------------------------------------


def test_a_second_registration_changes_nothing(core: Forwarding) -> None:
    """A process that died between commit and removal of the link registers again: new, repeat, version."""
    first, other = Instance(), Instance()
    receptions = [core.received(each) for each in (first, other, first, version_of(first, 1))]
    copies = [again(one) for one in receptions]
    register(core, *receptions)
    before = everything(core)
    register(core, *copies)
    register(core, *copies[:1])
    assert everything(core) == before
    check_files(core)


def test_a_second_registration_undoes_no_cancel(core: Forwarding) -> None:
    """Neither of a new instance nor of a repeat that was received before the cancel."""
    first = Instance()
    new = core.received(first)
    new_again = again(new)
    register(core, new)
    repeat = core.received(first)
    core.edge.run(
        "UPDATE deliveries SET state = 'cancelled', settled_at = now(), next_attempt_at = NULL,"
        " message_id = NULL"
    )
    core.edge.run("DELETE FROM dramatiq.queue")
    repeat_again = again(repeat)
    for one in (new_again, repeat, repeat_again):
        register(core, one)
    assert core.edge.rows("SELECT DISTINCT state::text FROM deliveries") == [("cancelled",)]
    assert core.edge.queued() == 0
    register(core, core.received(first))
    assert core.edge.rows("SELECT DISTINCT state::text FROM deliveries") == [("pending",)]


def test_a_late_repeat_of_an_older_version_undoes_no_cancel(core: Forwarding) -> None:
    """It would be sent after the newer version, but the operator cancelled it after it was received."""
    first = Instance()
    register(core, core.received(first))
    register(core, core.received(version_of(first, 1)))
    repeat = core.received(first)
    core.edge.run(
        "UPDATE deliveries d SET state = 'cancelled', settled_at = now(), next_attempt_at = NULL,"
        " message_id = NULL FROM instances i"
        " WHERE i.id = d.instance_id AND encode(i.sha256, 'hex') = %(digest)s",
        digest=first.digest,
    )
    register(core, repeat)
    assert core.edge.delivery(first)["state"] == "cancelled"


def test_a_repeat_of_what_is_unregistered_is_one_instance(core: Forwarding) -> None:
    """Both wait; in one batch, in two, and in the other order of two receivers."""
    for order in ([(0, 1)], [(0,), (1,)], [(1,), (0,)]):
        instance = Instance()
        receptions = [core.received(instance), core.received(instance)]
        for batch in order:
            register(core, *(receptions[number] for number in batch))
        assert kept_bytes(core, instance) == instance.data_set()
    assert core.edge.one("SELECT count(*) FROM instances") == 3
    assert core.edge.one("SELECT count(*) FROM repeats") == 3
    assert core.edge.one("SELECT count(*) FROM deliveries") == 6
    check_files(core)


def test_two_processes_that_register_the_same_change_nothing_twice(core: Forwarding) -> None:
    """The sweep and a receiver that was frozen: new ones, repeats, versions and taken names."""
    first = Instance()
    register(core, core.received(first))
    move_to_sent(core, first)
    receptions = [
        core.received(version_of(first, 1)),
        core.received(first),
        *(core.received(each) for each in study_of(20)),
    ]
    copies = [again(one) for one in receptions]
    at_once(lambda: register(core, *receptions), lambda: register(core, *copies))
    assert core.edge.one("SELECT count(*) FROM instances") == 22
    assert core.edge.one("SELECT count(*) FROM deliveries") == 44
    assert core.edge.one("SELECT count(*) FROM repeats") == 1
    check_files(core)


# ---- names ---------------------------------------------------------------------------------------


def move_to_sent(core: Forwarding, instance: Instance) -> None:
    """Move the file of a registered instance with the plain name, and change its row."""
    core.spool.move(Place.SENT, instance.study_instance_uid, f"{instance.sop_instance_uid}.dcm")
    core.edge.run(
        "UPDATE instances SET place = 'sent' WHERE encode(sha256, 'hex') = %(digest)s", digest=instance.digest
    )


def sent(core: Forwarding, instance: Instance) -> None:
    """Register an instance whose file is in sent/, so that its plain name is free in incoming/."""
    register(core, core.received(instance))
    move_to_sent(core, instance)


def test_a_version_whose_name_is_taken_gets_the_name_with_its_digest(core: Forwarding) -> None:
    """The row of the first version has the plain name, in sent/; alone and in a batch."""
    for others in ((), tuple(study_of(3))):
        first = Instance()
        sent(core, first)
        version = version_of(first, 1)
        one = core.received(version)
        assert one.has_plain_name
        register(core, one, *(core.received(other) for other in others))
        assert kept_bytes(core, first) == first.data_set()
        assert kept_bytes(core, version) == version.data_set()
    check_files(core)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_crash_while_a_file_is_renamed_leaves_no_second_name(core: Forwarding, steps: int) -> None:
    """The process died after it gave the new name, or after it removed the old one too."""
    first = Instance()
    sent(core, first)
    one = core.received(version_of(first, 1))
    assert one.link is not None
    _, name = file_names(first.sop_instance_uid, one.sha256)
    named = core.spool.path(Place.INCOMING, first.study_instance_uid, name)
    named.hardlink_to(one.path)
    if steps == 2:
        one.path.unlink()
    core.spool.close_receiver()
    reconcile(core.sweeping())
    assert core.edge.one("SELECT count(*) FROM instances") == 2
    check_files(core)


def test_the_name_of_another_reception_is_never_removed(core: Forwarding) -> None:
    """The sweep examined a reception; then it was registered and sent, and a version has its name now."""
    first = Instance()
    one = core.received(first)
    late = again(one)
    register(core, one)
    move_to_sent(core, first)
    version = core.received(version_of(first, 1))
    assert version.path == late.path
    register(core, late)
    assert version.path.exists()
    register(core, version)
    assert kept_bytes(core, version_of(first, 1)) == version_of(first, 1).data_set()
    check_files(core)


def test_the_name_of_another_reception_is_never_given_away(core: Forwarding) -> None:
    """The same with a reception that must be renamed: its link says which file is its own."""
    first = Instance()
    sent(core, first)
    one = core.received(version_of(first, 1))
    late = again(one)
    register(core, one)
    other = core.received(version_of(first, 2))
    assert other.path == late.path
    register(core, late)
    register(core, other)
    for number in (1, 2):
        version = version_of(first, number)
        assert kept_bytes(core, version) == version.data_set()
    check_files(core)


def test_a_repeat_replaces_a_lost_file(core: Forwarding) -> None:
    """Its row names the file of the repeat; a second registration keeps it."""
    instance = Instance()
    one = core.received(instance)
    register(core, one)
    core.spool.path(Place.INCOMING, instance.study_instance_uid, one.path.name).unlink()
    repeat = core.received(instance)
    late = again(repeat)
    register(core, repeat)
    register(core, late)
    assert kept_bytes(core, instance) == instance.data_set()
    check_files(core)


def test_a_repeat_does_not_replace_a_file_that_is_being_moved(
    core: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folders are looked at one by one. The file comes to one that was looked at before."""
    instance = Instance()
    one = core.received(instance)
    register(core, one)
    repeat = core.received(instance)
    find_all = Spool.find_all
    looks = []

    def missing_it(spool: Spool, place: Place, study: str, name: str) -> Iterator[Path]:
        looks.append(name)
        if len(looks) > 1:
            yield from find_all(spool, place, study, name)
        else:
            spool.move(Place.SENT, study, name, was=Place.INCOMING)

    monkeypatch.setattr(Spool, "find_all", missing_it)
    register(core, repeat)
    assert len(looks) == 2
    assert core.edge.one("SELECT file_name FROM instances") == one.file_name
    assert list(core.edge.files()) == [f"sent/{one.file_name}"]


# ---- order of versions ---------------------------------------------------------------------------


def test_versions_registered_in_any_order_are_sent_in_the_order_of_reception(
    core: Forwarding, pacs: Peer
) -> None:
    """Two receivers register what they received after an outage, in another order."""
    first = Instance()
    versions = [first, *(version_of(first, number) for number in range(1, 4))]
    receptions = [core.received(version) for version in versions]
    for number in (2, 0, 3, 1):
        core.registration().register_one(receptions[number])
    ids = [row[0] for row in core.edge.rows("SELECT id FROM deliveries WHERE route = 'pacs' ORDER BY id")]
    for _ in range(4):
        for delivery in ids:
            forward_to_pacs(core.context, delivery)
    assert digests(pacs) == [version.digest for version in versions]


def test_a_version_that_is_registered_after_a_later_one_was_sent_is_not_the_last(
    core: Forwarding, pacs: Peer
) -> None:
    """The PACS gets the older one, and then the newest one again."""
    first = Instance()
    newest = version_of(first, 1)
    older, newer = core.received(first), core.received(newest)
    core.registration().register_one(newer)
    forward_to_pacs(core.context, core.edge.delivery(first)["id"])
    core.registration().register_one(older)
    for _ in range(3):
        for [delivery] in core.edge.rows(
            "SELECT id FROM deliveries WHERE route = 'pacs' AND state = 'pending' ORDER BY id"
        ):
            forward_to_pacs(core.context, delivery)
    assert digests(pacs) == [newest.digest, first.digest, newest.digest]


def test_a_taken_name_is_given_in_the_order_of_reception(core: Forwarding) -> None:
    """A version with the plain name waits, once it is renamed, for one that was received before."""
    first = Instance()
    one = core.received(first)
    second = core.received(version_of(first, 1))  # has its digest in its name; not registered yet
    register(core, one)
    move_to_sent(core, first)
    third = core.received(version_of(first, 2))
    assert third.has_plain_name
    assert core.registration().register([third]) == [third]
    register(core, second)
    register(core, third)
    assert core.edge.rows("SELECT encode(sha256, 'hex') FROM instances ORDER BY id") == [
        (each.digest,) for each in (first, version_of(first, 1), version_of(first, 2))
    ]
    check_files(core)


# ---- results -------------------------------------------------------------------------------------


def correlation_of(core: Forwarding, result: Instance) -> str:
    """Return how the result was correlated."""
    return str(
        core.edge.one(
            "SELECT correlation::text FROM instances WHERE sop_instance_uid = %(uid)s",
            uid=result.sop_instance_uid,
        )
    )


def test_a_result_before_its_source_is_correlated_again(core: Forwarding) -> None:
    """When the source is registered: alone, and in a batch."""
    for others in (0, 3):
        source = Instance()
        result = result_of(source, study=new_uid())
        register(core, core.received(result, worker="APP01"))
        assert correlation_of(core, result) == "unmatched"
        register(core, core.received(source), *(core.received(other) for other in study_of(others)))
        assert correlation_of(core, result) == "references"
    assert core.edge.one("SELECT count(*) FROM result_sources") == 2
    assert core.edge.one("SELECT count(*) FROM unmatched_references") == 0


def test_a_result_in_the_batch_of_its_source_is_registered_after_it(core: Forwarding) -> None:
    """Whatever was received first."""
    source = Instance()
    result = core.received(result_of(source, study=new_uid()), worker="APP01")
    register(core, result, core.received(source))
    assert core.edge.one("SELECT correlation::text FROM instances WHERE kind = 'result'") == "references"


def test_a_result_and_its_source_registered_at_the_same_time_find_each_other(core: Forwarding) -> None:
    """Neither transaction sees the other one; the one that commits last looks again."""
    for _ in range(15):
        source = Instance()
        result = result_of(source, study=new_uid())
        one, other = core.received(source), core.received(result, worker="APP01")
        at_once(partial(register, core, one), partial(register, core, other))
        assert correlation_of(core, result) == "references"


def holding(kind: Kind, wrote: threading.Event, go_on: threading.Event) -> Callable[..., RegisteredInstance]:
    """Return `instances.register` that waits, once an instance of that kind is written, before its commit."""
    register_now = instances.register

    def hold(session: Session, received: ReceivedInstance, *, window: timedelta) -> RegisteredInstance:
        registered = register_now(session, received, window=window)
        if received.kind is kind:
            wrote.set()
            assert go_on.wait(30)
        return registered

    return hold


def test_the_source_of_an_unmatched_result_is_found_in_any_order_of_commits(
    core: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is written, but not committed, while its source is registered; and the other way round."""
    register_now = instances.register
    for held_kind in Kind:
        source = Instance()
        result = result_of(source, study=new_uid())
        receptions = {
            Kind.ORIGINAL: core.received(source),
            Kind.RESULT: core.received(result, worker="APP01"),
        }
        wrote, go_on = threading.Event(), threading.Event()

        monkeypatch.setattr(instances, "register", holding(held_kind, wrote, go_on))
        held = threading.Thread(target=register, args=(core, receptions.pop(held_kind)))
        held.start()
        assert wrote.wait(30)
        [other] = receptions.values()
        register(core, other)
        go_on.set()
        held.join(30)
        monkeypatch.setattr(instances, "register", register_now)
        assert correlation_of(core, result) == "references"


def test_a_crash_before_the_second_look_is_made_up_for(core: Forwarding) -> None:
    """The link is still there: the next process finds the result registered, and looks again."""
    source = Instance()
    result = result_of(source, study=new_uid())
    one = core.received(result, worker="APP01")
    late = again(one)
    register(core, one)
    source_reception = core.received(source)
    with core.edge.database.transaction() as session:  # a process that died right behind its commit
        received = received_of(source_reception, core.edge.configuration.forwarder.targets)
        instances.register(session, received, window=timedelta(minutes=10))
    assert correlation_of(core, result) == "unmatched"
    register(core, late)
    assert correlation_of(core, result) == "references"


def test_a_correlation_that_postgresql_refuses_refuses_no_original(core: Forwarding) -> None:
    """The result stays unmatched; the batch is registered."""
    source = Instance()
    result = result_of(source, study=new_uid())
    register(core, core.received(result, worker="APP01"))
    core.edge.run(
        "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'poison' USING ERRCODE = 'check_violation'; END $$"
    )
    core.edge.run(
        "CREATE TRIGGER poison BEFORE INSERT ON result_sources FOR EACH ROW EXECUTE FUNCTION poison()"
    )
    register(core, core.received(source), *(core.received(other) for other in study_of(3)))
    second = result_of(source)
    register(core, core.received(second, worker="APP01"))
    assert core.edge.one("SELECT count(*) FROM instances") == 6
    assert correlation_of(core, result) == correlation_of(core, second) == "unmatched"
    assert core.edge.delivery(second)["state"] == "pending"


# ---- PostgreSQL refuses --------------------------------------------------------------------------


def refuse_with(core: Forwarding, code: str) -> None:
    """Make PostgreSQL refuse each new instance with that SQLSTATE."""
    core.edge.run(
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END $$"
    )
    core.edge.run(
        "CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON instances FOR EACH ROW EXECUTE FUNCTION refuse()"
    )


def test_errors_of_the_server_or_the_schema_give_no_reception_up(core: Forwarding) -> None:
    """Read-only, a cancelled statement, a deadlock, a missing table: it is not the fault of the reception."""
    receptions = [core.received(each) for each in study_of(3)]
    registration = core.registration()
    for code, error in (
        ("25006", DatabaseRefusedError),
        ("57014", DatabaseRefusedError),
        ("53100", DatabaseUnavailableError),
        ("42P01", SchemaError),
        ("42501", SchemaError),
    ):
        refuse_with(core, code)
        for _ in range(4):
            with pytest.raises(error):
                registration.register(receptions)
    refuse_with(core, "40P01")
    for _ in range(4):
        assert sorted(map(id, registration.register(receptions))) == sorted(map(id, receptions))
    core.edge.run("DROP TRIGGER refuse ON instances")
    register(core, *receptions)
    assert not any(one.refusals for one in receptions)
    check_files(core)


def test_of_a_batch_with_an_unknown_outcome_nothing_is_registered_twice(
    core: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is lost after the commit: the whole batch is registered again, and found registered."""
    receptions = [core.received(each) for each in study_of(5)]
    register_many = instances.register_many

    def committed(_: Session, batch: Sequence[ReceivedInstance], *, window: timedelta) -> NoReturn:
        with core.edge.database.transaction() as other:
            register_many(other, batch, window=window)
        raise OutcomeUnknownError("lost")

    monkeypatch.setattr(instances, "register_many", committed)
    with pytest.raises(DatabaseUnavailableError):
        core.registration().register(receptions)
    monkeypatch.setattr(instances, "register_many", register_many)
    before = everything(core)
    register(core, *receptions)
    assert everything(core) == before
    check_files(core)


def test_a_moved_file_is_found_by_its_link(core: Forwarding) -> None:
    """It was registered and sent before the link was removed: nothing is owed again."""
    instance = Instance()
    one = core.received(instance)
    late = again(one)
    register(core, one)
    assert late.link is not None
    move_to_sent(core, instance)
    sent_file = core.spool.path(Place.SENT, instance.study_instance_uid, one.path.name)
    late.link.hardlink_to(sent_file)
    assert final_name(core.spool, late.link, late.envelope) == sent_file
    core.spool.close_receiver()
    before = everything(core)
    [found] = Recovery(core.spool, grace_seconds=0).of_the_dead()
    register(core, found)
    assert everything(core) == before
    check_files(core)


def test_each_delivery_has_one_message(core: Forwarding) -> None:
    """Also where a batch was split, renamed or repeated."""
    first = Instance()
    sent(core, first)
    receptions = [core.received(each) for each in (version_of(first, 1), *study_of(4))]
    copies = [again(one) for one in receptions]
    register(core, *receptions)
    register(core, *copies)
    assert core.edge.one("SELECT count(*) FROM deliveries") == 2 * 6
    for route in (Route.PACS, Route.WORKERS):
        assert core.edge.queued(route.value) == 6
    wait_until(lambda: core.edge.queued() == 12, 5, "the messages")


def test_an_unforeseen_error_of_one_reception_ends_no_process(
    core: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others of its batch are registered; it is set aside like one that PostgreSQL refuses."""
    batch = [core.received(Instance()) for _ in range(3)]
    bad = batch[1].envelope.reception_id

    def refusing(one: Unregistered, targets: Targets) -> ReceivedInstance:
        if one.envelope.reception_id == bad:
            raise ValueError("unforeseen")
        return received_of(one, targets)

    monkeypatch.setattr(registration, "received_of", refusing)
    registering = core.registration()
    left = registering.register(batch)
    while left:
        left = registering.register(left)
    assert [one.is_done for one in batch] == [True, True, True]
    assert core.edge.one("SELECT count(*) FROM instances") == 2
    assert refused_count(core.spool) == 1
    assert "unforeseen ValueError" in core.edge.log(outcome="not_registrable")[0]["error"]
