"""C-STORE through a real SCP: the file, the rows, the deliveries and the response."""

import os
import resource
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import MakeEdge
from support.edge_setup import EdgeSetup, children, store
from support.synthetic_instances import CT, EXPLICIT, MR, PATIENT, Instance, new_uid, study_of
from support.waiting import wait_until

from gateway.database.tables import faults
from gateway.dicom.contexts import ProposedContext
from gateway.dicom.requestor import associate
from gateway.dicom.wire import TimedOutError
from gateway.errors import AssociationBrokenError, AssociationRejectedError, PeerError
from gateway.faults import Active, Name

ALL = ("instances", "deliveries", "dramatiq.queue")


@pytest.fixture
def edge(make_edge: MakeEdge) -> EdgeSetup:
    """Return an edge whose SCP runs; no actor takes its deliveries."""
    edge = make_edge()
    edge.serve()
    return edge


def counts(edge: EdgeSetup) -> list[int]:
    """Return the numbers of rows of instances, deliveries and messages."""
    return [edge.one(f"SELECT count(*) FROM {table}") for table in ALL]  # noqa: S608  ours


def deliver(edge: EdgeSetup, *, ago: str = "0 s") -> None:
    """Set all deliveries to delivered that long ago; only the rows change."""
    edge.run("UPDATE deliveries SET state = 'in_flight', claim_id = gen_random_uuid(), lease_until = now()")
    edge.run(
        "UPDATE deliveries SET state = 'delivered', claim_id = NULL, lease_until = NULL,"
        " settled_at = now() - %(ago)s::interval",
        ago=ago,
    )
    edge.run("DELETE FROM dramatiq.queue")


def test_success_means_a_file_a_row_two_deliveries_and_their_messages(edge: EdgeSetup) -> None:
    """G1: all of them exist when the sender reads Success; the file holds the data set as received."""
    instance = Instance()
    assert edge.send(instance) == [0]
    assert counts(edge) == [1, 2, 2]
    edge.check_ledger([instance])
    assert list(edge.files()) == [f"incoming/{instance.sop_instance_uid}.dcm"]
    rows = edge.rows(
        "SELECT queue_name, message -> 'args' = to_jsonb(ARRAY[delivery_id]) FROM dramatiq.queue"
    )
    assert sorted(rows) == [("pacs", True), ("workers", True)]


def test_the_same_bytes_again_make_no_new_delivery(edge: EdgeSetup) -> None:
    """G4: while pending, and just after delivery; the repeat's file is deleted, the repeat is counted."""
    instance = Instance()
    assert edge.send(instance, instance) == [0, 0]
    deliver(edge)
    assert edge.send(instance) == [0]
    assert counts(edge) == [1, 2, 0]
    assert edge.one("SELECT repeats FROM instances") == 2
    wait_until(lambda: len(edge.files()) == 1, 5, "the repeats' files to go")


@pytest.mark.parametrize("state", ["delivered", "dead", "cancelled"])
def test_a_repeat_after_the_window_or_a_failure_is_forwarded_again(edge: EdgeSetup, state: str) -> None:
    """G4: an operator who emptied the PACS, or cancelled, gets the images by sending them again."""
    instance = Instance()
    assert edge.send(instance) == [0]
    if state == "delivered":
        deliver(edge, ago="31 s")
    else:
        edge.run("UPDATE deliveries SET state = %(state)s::delivery_state", state=state)
        edge.run("DELETE FROM dramatiq.queue")
    assert edge.send(instance) == [0]
    assert edge.one("SELECT count(*) FROM deliveries WHERE state = 'pending' AND attempts = 0") == 2
    assert edge.queued() == 2
    assert edge.log(outcome="owed_again")


def test_other_bytes_under_the_same_uid_are_a_flagged_second_version(edge: EdgeSetup) -> None:
    """G4: a conflict has its own file, row and deliveries; the first version is unchanged."""
    first = Instance()
    second = replace(first, payload=b"\x09\x09")
    third = replace(first, payload=b"\x07\x07", study_instance_uid=new_uid())
    assert edge.send(first, second, third) == [0, 0, 0]
    edge.check_ledger([first, second, third])
    assert edge.rows("SELECT conflict FROM instances ORDER BY id") == [(False,), (True,), (True,)]
    assert counts(edge)[1:] == [6, 6]


def test_the_same_instance_from_eight_senders_at_once_is_forwarded_once(edge: EdgeSetup) -> None:
    """G4: all get Success; one file and one delivery per route remain."""
    instance = Instance()
    for _ in range(3):
        assert edge.send_at_once([instance] * 8) == [0] * 8
    assert counts(edge) == [1, 2, 2]
    wait_until(lambda: len(edge.files(partial=True)) == 1, 5, "the repeats' files to go")
    edge.check_ledger([instance])


def test_eight_versions_of_one_uid_at_once_are_all_kept(edge: EdgeSetup) -> None:
    """G4: the version that is first has no flag."""
    first = Instance()
    versions = [replace(first, payload=bytes([number, 0])) for number in range(8)]
    assert edge.send_at_once(versions) == [0] * 8
    edge.check_ledger(versions)
    assert edge.one("SELECT count(*) FROM instances WHERE NOT conflict") == 1


def test_a_version_whose_name_was_moved_away_keeps_its_name(edge: EdgeSetup) -> None:
    """A name belongs to one file in all folders: the second version gets a name with its digest."""
    first = Instance()
    second = replace(first, payload=b"\x09\x09")
    assert edge.send(first) == [0]
    root, study = edge.configuration.edge.data_root, first.study_instance_uid
    name = f"{first.sop_instance_uid}.dcm"
    (root / "sent" / study).mkdir()
    (root / "incoming" / study / name).rename(root / "sent" / study / name)
    edge.run("UPDATE instances SET place = 'sent'")
    assert edge.send(second) == [0]
    edge.check_ledger([first, second])
    assert sorted(edge.files()) == [
        f"incoming/{first.sop_instance_uid}.{second.digest[:12]}.dcm",
        f"sent/{name}",
    ]


def test_a_repeat_replaces_a_lost_file(edge: EdgeSetup) -> None:
    """The next repeat restores a file that the disk lost."""
    instance = Instance()
    assert edge.send(instance) == [0]
    [path] = edge.files().values()
    path.unlink()
    assert edge.send(instance) == [0]
    edge.check_ledger([instance])
    assert counts(edge) == [1, 2, 2]


def garbage(instance: Instance) -> bytes:
    """Return a data set that ends in the middle of a length."""
    return instance.data_set()[:20] + b"\xff" * 40


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ("garbage", 0xC000),
        ("empty", 0xC000),
        ("no study", 0xC000),
        ("path for a uid", 0xC000),
        ("other instance", 0xA900),
        ("other class", 0xA900),
    ],
)
def test_a_wrong_data_set_gets_its_status_and_leaves_nothing(
    edge: EdgeSetup, change: str, status: int
) -> None:
    """G7: the statuses of PS3.4 §B.2.3, Table B.2-1, with a comment; the association goes on."""
    good = Instance()
    wrong = Instance()
    data, uid, context = wrong.data_set(), wrong.sop_instance_uid, wrong.context
    if change == "garbage":
        data = garbage(wrong)
    elif change == "empty":
        data = b""
    elif change == "no study":
        data = data.replace(struct.pack("<HH", 0x20, 0xD), struct.pack("<HH", 0x20, 0xB))
    elif change == "path for a uid":
        wrong = replace(wrong, study_instance_uid="../../../../tmp/evil")
        data = wrong.data_set()
    elif change == "other instance":
        uid = new_uid()
    elif change == "other class":
        context = ProposedContext(MR, EXPLICIT)
    with edge.association([good.context, context]) as association:
        answered, comment = association.store(context, uid, [data])
        assert answered == status
        assert comment
        assert store(association, good)[0] == 0
    assert counts(edge) == [1, 2, 2]
    assert len(edge.files(partial=True)) == 1
    assert edge.log(outcome="refused", status=f"0x{status:04X}")


def inject(edge: EdgeSetup, fault: Active) -> None:
    """Inject the fault and wait until every receiver has it."""
    with edge.database.statement() as session:
        faults.inject(session, fault, duration=None, by="test")
    wait_until(
        lambda: len(edge.log(outcome="active", fault=fault.name.value)) == _receivers(edge), 5, "the fault"
    )


def _receivers(edge: EdgeSetup) -> int:
    return int(edge.wait_log(outcome="listening")["count"])


def test_a_full_disk_is_out_of_resources_and_leaves_nothing(edge: EdgeSetup) -> None:
    """0xA700 while the disk is full, Success afterwards."""
    instance = Instance()
    inject(edge, Active(Name.DISK_FULL))
    assert edge.send(instance) == [0xA700]
    assert counts(edge) == [0, 0, 0]
    assert edge.files(partial=True) == {}
    with edge.database.statement() as session:
        faults.clear(session)
    edge.wait_log(outcome="over", fault="disk_full")
    wait_until(lambda: edge.send(instance) == [0], 5, "the fault to be over")


def test_an_association_dropped_by_a_fault_leaves_nothing(edge: EdgeSetup) -> None:
    """The sender gets an abort in the middle of the data set, so it will send the instance again."""
    inject(edge, Active(Name.DROP_ASSOCIATION))
    with pytest.raises(AssociationBrokenError):
        edge.send(Instance(payload=b"\0" * 400_000))
    assert counts(edge) == [0, 0, 0]
    wait_until(lambda: edge.files(partial=True) == {}, 5, "the part to go")


def reject_of(
    edge: EdgeSetup, *, called: str | None = None, calling: str = "ORTHANC"
) -> tuple[int, int, int]:
    """Return result, source and reason of the rejection."""
    peer = edge.peer() if called is None else replace(edge.peer(), ae_title=called)
    with pytest.raises(AssociationRejectedError) as caught:
        associate(peer, calling_ae_title=calling, contexts=[ProposedContext(CT, EXPLICIT)])
    return caught.value.result, caught.value.source, caught.value.reason


def test_strangers_are_rejected_at_association(edge: EdgeSetup) -> None:
    """G7: PS3.8 §9.3.4, Table 9-21, with the reasons that docs/operate/when-something-is-wrong.md names."""
    assert reject_of(edge, calling="STRANGER") == (1, 1, 3)
    line = edge.wait_log(outcome="rejected", error="calling_aet_not_allowed")
    assert line["calling_ae_title"] == "STRANGER"
    assert reject_of(edge, called="OTHER") == (1, 1, 7)
    assert edge.wait_log(outcome="rejected", error="called_aet_not_recognized")["called_ae_title"] == "OTHER"


def test_limits_reject_temporarily_and_strangers_use_no_capacity(make_edge: MakeEdge) -> None:
    """G7: one peer's limit leaves capacity for others.

    An unknown caller gets the usual rejection even when all capacity is used.
    """
    edge = make_edge({"edge": {"max_associations": 3, "max_associations_per_peer": 2}})
    edge.serve()
    context = [ProposedContext(CT, EXPLICIT)]
    with edge.association(context), edge.association(context):
        assert reject_of(edge) == (2, 3, 2)
        with edge.association(context, "APP01"):
            assert reject_of(edge, calling="APP02") == (2, 3, 2)
            assert reject_of(edge, calling="STRANGER") == (1, 1, 3)
    assert edge.wait_log(outcome="rejected", error="local_limit_exceeded")
    wait_until(lambda: edge.log(outcome="released", calling_ae_title="APP01"), 5, "the release")
    assert edge.send(Instance()) == [0]


def test_a_disk_at_its_reserve_rejects_before_it_is_full(make_edge: MakeEdge) -> None:
    """The rejection is temporary congestion (2/3/1): no reception begins without space for its end."""
    edge = make_edge({"edge": {"disk_reserve_mb": 1 << 30}})
    edge.serve()
    assert reject_of(edge) == (2, 3, 1)
    assert edge.wait_log(outcome="rejected", error="temporary_congestion")


def test_sigterm_finishes_the_instance_in_flight_and_takes_no_new_one(edge: EdgeSetup) -> None:
    """It gets Success, then the association ends; the port is free."""
    instance = Instance(payload=b"\0" * 2_000_000)
    data = instance.data_set()
    go_on = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield data[:1_000_000]
        assert go_on.wait(30)
        yield data[1_000_000:]

    answers: list[int] = []

    def send() -> None:
        with edge.association([instance.context]) as association:
            answers.append(association.store(instance.context, instance.sop_instance_uid, slowly())[0])

    sender = threading.Thread(target=send)
    sender.start()
    try:
        wait_until(lambda: edge.files(partial=True), 5, "the part")
        edge.scp.popen.send_signal(signal.SIGTERM)
        wait_until(lambda: _refuses(edge), 5, "new associations to be refused")
    finally:
        go_on.set()
        sender.join(30)
    assert answers == [0]
    assert edge.scp.wait(20) == 0
    edge.check_ledger([instance])
    assert edge.log(outcome="stopped")


def _refuses(edge: EdgeSetup) -> bool:
    try:
        with associate(
            replace(edge.peer(), connect_timeout_seconds=1),
            calling_ae_title="ORTHANC",
            contexts=[ProposedContext(CT, EXPLICIT)],
        ):
            return False
    except PeerError as error:
        # Refused, and not left waiting until the timeout.
        return not isinstance(error.__cause__, (TimedOutError, TimeoutError))


def test_no_log_line_message_or_row_holds_a_patient_attribute(edge: EdgeSetup) -> None:
    """G8: this includes the refusal of a data set, whose error quotes an attribute."""
    assert edge.send(*study_of(3)) == [0, 0, 0]
    wrong = Instance(sop_class_uid=MR)
    with edge.association([ProposedContext(CT, EXPLICIT)]) as association:
        association.store(ProposedContext(CT, EXPLICIT), wrong.sop_instance_uid, [wrong.data_set()])
    assert PATIENT not in edge.configuration.edge.log_path.read_text()
    for table in ALL:
        assert edge.one(f"SELECT count(*) FROM {table} t WHERE t::text LIKE '%%Secret%%'") == 0  # noqa: S608


def test_c_store_priority_high_overtakes_a_backlog(edge: EdgeSetup) -> None:
    """Its deliveries are sent before all earlier ones."""
    urgent, usual = Instance(), Instance()
    with edge.association([urgent.context]) as association:
        store(association, usual)
        store(association, urgent, priority=1)
    order = edge.rows(
        "SELECT d.instance_id, q.priority FROM dramatiq.queue q JOIN deliveries d ON d.id = q.delivery_id"
        " WHERE q.queue_name = 'pacs' ORDER BY q.priority"
    )
    assert [priority for _, priority in order] == [0, 4]


def test_a_receiver_that_dies_is_replaced_and_frees_its_places(make_edge: MakeEdge) -> None:
    """G6: a new receiver starts within about a second; the old one's associations do not count any more."""
    edge = make_edge({"edge": {"receivers": 1, "max_associations": 1, "max_associations_per_peer": 1}})
    scp = edge.serve()
    with edge.association([ProposedContext(CT, EXPLICIT)]) as association:
        [receiver] = children(scp.pid)
        os.kill(receiver, signal.SIGKILL)
        with pytest.raises(PeerError):
            store(association, Instance())
    edge.wait_log(outcome="receiver_died")
    wait_until(lambda: _stores(edge), 5, "the next receiver")


def test_without_a_free_thread_one_connection_is_closed(make_edge: MakeEdge) -> None:
    """G7: it is logged; the receiver goes on, and accepts connections again when it can."""
    edge = make_edge({"edge": {"receivers": 1}})
    scp = edge.serve()
    [receiver] = children(scp.pid)
    instance = Instance()
    with edge.association([instance.context]) as association:
        before = resource.prlimit(receiver, resource.RLIMIT_AS)
        # less than one thread's stack is left
        resource.prlimit(receiver, resource.RLIMIT_AS, (virtual_bytes(receiver) + (64 << 10), before[1]))
        with socket.create_connection(("127.0.0.1", edge.configuration.edge.port)) as refused:
            refused.settimeout(10)
            assert refused.recv(1) == b""
        resource.prlimit(receiver, resource.RLIMIT_AS, before)
        assert edge.wait_log(outcome="not_accepted")["error"] == "can't start new thread"
        assert store(association, instance)[0] == 0
    assert edge.send(Instance()) == [0]
    assert children(scp.pid) == [receiver]


def virtual_bytes(pid: int) -> int:
    """Return the address space of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


def _stores(edge: EdgeSetup) -> bool:
    try:
        return edge.send(Instance()) == [0]
    except PeerError:
        return False
