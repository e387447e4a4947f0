"""`mini-pacs db rebuild`: rows are made again of files; a second run changes nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeEdge
from support.edge_setup import EdgeSetup
from support.forwarding import Forwarding, forwarding
from support.launcher import command
from support.synthetic_instances import EXPLICIT, Instance, result_of
from support.waiting import wait_until

from gateway.dicom.dataset.part10 import preamble_and_file_meta
from gateway.domain.instance import Place
from gateway.register.rebuild_batch import OWED_AGAIN, WAS_DEAD
from gateway.spool.marks import ID, Identity, read_identity, write_identity
from gateway.spool.places import DAMAGED

pytestmark = [pytest.mark.guarantee("G2"), pytest.mark.guarantee("G6")]

STATES = {Place.SENT: "delivered", Place.FAILED: "dead"}


@pytest.fixture
def edge(make_edge: MakeEdge) -> EdgeSetup:
    """Return an edge without running processes."""
    return make_edge()


@pytest.fixture
def core(edge: EdgeSetup) -> Iterator[Forwarding]:
    """Yield its core."""
    with forwarding(edge) as core:
        yield core


def put(core: Forwarding, place: Place, instance: Instance | None = None, **received: Any) -> Instance:
    """Store an instance, and bring rows and file to the state that `place` shows."""
    instance = instance or Instance()
    core.receive(instance, **received)
    found = core.edge.rows(
        "SELECT id, file_name FROM instances WHERE sop_instance_uid = %(uid)s ORDER BY id DESC LIMIT 1",
        uid=instance.sop_instance_uid,
    )
    instance_id, name = found[0]
    if place in STATES:
        core.edge.run(
            "UPDATE deliveries SET state = %(state)s::delivery_state, settled_at = now(),"
            " next_attempt_at = NULL WHERE instance_id = %(id)s",
            state=STATES[place],
            id=instance_id,
        )
        core.edge.run(
            "DELETE FROM dramatiq.queue WHERE delivery_id IN"
            " (SELECT id FROM deliveries WHERE instance_id = %(id)s)",
            id=instance_id,
        )
    core.edge.run(
        "UPDATE instances SET place = %(place)s::instance_place WHERE id = %(id)s",
        place=place,
        id=instance_id,
    )
    core.spool.move(place, instance.study_instance_uid, name)
    for link in core.spool.receiver.glob("*.part"):
        link.unlink()
    return instance


def lose(edge: EdgeSetup) -> None:
    """Empty the database, as if it was created anew."""
    edge.run(
        "TRUNCATE instances, decisions, deliveries, attempts, expected_results, result_sources, repeats,"
        " unmatched_references, dramatiq.queue, spool"
    )


def rebuild(edge: EdgeSetup, *, code: int = 0) -> dict[str, Any]:
    """Run the command; return the counts that are not 0."""
    process = edge.start("mini-pacs", "db", "rebuild", "--yes", "--json")
    assert process.wait(60) == code, process.text()
    text = process.text()
    document: dict[str, Any] = json.loads(text[text.index("{") :])
    if code:
        return document
    return {name: count for name, count in document["counts"].items() if count}


def everything(edge: EdgeSetup) -> tuple[object, ...]:
    """Return what a second run must not change: rows, messages and files."""
    return (
        edge.rows("SELECT * FROM instances ORDER BY id"),
        edge.rows("SELECT * FROM deliveries ORDER BY id"),
        edge.rows("SELECT message_id::text, delivery_id FROM dramatiq.queue ORDER BY 1"),
        edge.rows("SELECT * FROM repeats ORDER BY 1"),
        edge.rows("SELECT * FROM result_sources ORDER BY 1, 2"),
        sorted(path.relative_to(edge.spool.root) for path in edge.spool.root.glob("*/*/*.dcm")),
    )


def states(edge: EdgeSetup, instance: Instance) -> set[tuple[Any, ...]]:
    """Return state, reason, and whether a message is there, of each delivery."""
    return set(
        edge.rows(
            "SELECT d.state::text, d.last_error, i.place::text,"
            " EXISTS (SELECT FROM dramatiq.queue q WHERE q.delivery_id = d.id)"
            " FROM deliveries d JOIN instances i ON i.id = d.instance_id"
            " WHERE i.sop_instance_uid = %(uid)s AND i.sha256 = decode(%(digest)s, 'hex')",
            uid=instance.sop_instance_uid,
            digest=instance.digest,
        )
    )


def test_each_place_gives_its_state_and_a_second_run_changes_nothing(core: Forwarding) -> None:
    """Owed, owed after an attempt, delivered, dead; and the pair is known again."""
    edge = core.edge
    incoming, queued, sent, failed = (put(core, place) for place in Place)
    lose(edge)
    assert rebuild(edge) == {"files": 4, "owed": 2, "delivered": 1, "dead": 1}
    assert states(edge, incoming) == {("pending", None, "incoming", True)}
    assert states(edge, queued) == {("pending", OWED_AGAIN, "queued", True)}
    assert states(edge, sent) == {("delivered", None, "sent", False)}
    assert states(edge, failed) == {("dead", WAS_DEAD, "failed", False)}
    with edge.database.statement() as session:
        edge.identity.check(session)
    before = everything(edge)
    assert rebuild(edge) == {"files": 4, "known": 4}
    assert everything(edge) == before


def test_versions_results_and_repeats_are_found_again(core: Forwarding) -> None:
    """Versions in the order of their reception, a result with its source, a repeat counted once."""
    edge = core.edge
    first = put(core, Place.SENT)
    second = put(core, Place.INCOMING, Instance(**{**first.__dict__, "payload": b"\3" * 1024}))
    source = put(core, Place.SENT)
    result = put(core, Place.SENT, result_of(source), worker="APP01")
    repeat = core.received(source)
    assert repeat.link is not None
    repeat.link.unlink()
    lose(edge)
    counts = rebuild(edge)
    assert counts == {"files": 5, "owed": 1, "delivered": 3, "repeats": 1, "owed_again": 1}
    order = edge.rows(
        "SELECT encode(i.sha256, 'hex') FROM deliveries d JOIN instances i ON i.id = d.instance_id"
        " WHERE i.sop_instance_uid = %(uid)s AND d.route = 'pacs' ORDER BY version_order(d)",
        uid=first.sop_instance_uid,
    )
    assert [row[0] for row in order] == [first.digest, second.digest]
    assert edge.one("SELECT count(*) FROM result_sources") == 1
    assert {state[0] for state in states(edge, result)} == {"delivered"}
    assert {state[0] for state in states(edge, source)} == {"pending"}, "its repeat was unregistered"
    before = everything(edge)
    assert rebuild(edge) == {"files": 5, "known": 5}
    assert everything(edge) == before


def test_a_database_from_a_backup_owes_again_what_it_took_for_delivered(core: Forwarding) -> None:
    """What was received, owed again and delivered after the backup; what it knows besides stays as it is."""
    edge = core.edge
    resent, delivered = put(core, Place.SENT), put(core, Place.SENT)
    edge.identity.mark(edge.database)
    later, waiting = put(core, Place.SENT), put(core, Place.INCOMING)
    core.spool.move(Place.QUEUED, resent.study_instance_uid, f"{resent.sop_instance_uid}.dcm")
    for one in (later, waiting):
        edge.run("DELETE FROM instances WHERE sop_instance_uid = %(uid)s", uid=one.sop_instance_uid)
    edge.run("UPDATE spool SET seen_at = seen_at - interval '1 hour'")
    assert rebuild(edge) == {"files": 4, "known": 2, "owed": 1, "delivered": 1, "owed_again": 1}
    assert {state[:3] for state in states(edge, resent)} == {("pending", OWED_AGAIN, "queued")}
    assert {state[0] for state in states(edge, delivered)} == {"delivered"}
    with edge.database.statement() as session:
        edge.identity.check(session)


def test_a_known_pair_is_not_owed_again(core: Forwarding) -> None:
    """The rows are right then: a file that a crash left in queued/ is still delivered."""
    edge = core.edge
    sent = put(core, Place.SENT)
    core.spool.move(Place.QUEUED, sent.study_instance_uid, f"{sent.sop_instance_uid}.dcm")
    before = everything(edge)
    assert rebuild(edge) == {"files": 1, "known": 1}
    assert everything(edge) == before


def without_envelope(root: Path, place: Place, instance: Instance, *, calling: str = "ORTHANC") -> Path:
    """Write a file as versions before 0.3.0 did."""
    head = preamble_and_file_meta(
        instance.sop_class_uid, instance.sop_instance_uid, EXPLICIT, source_ae_title=calling
    )
    path = root / place / instance.study_instance_uid / f"{instance.sop_instance_uid}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + instance.data_set())
    return path


def test_files_of_earlier_versions_are_registered_once(core: Forwarding) -> None:
    """Their values come from the data set; rows of those versions are known, and not counted as repeats."""
    edge = core.edge
    old, result, kept = Instance(), result_of(Instance()), Instance()
    without_envelope(edge.spool.root, Place.SENT, old, calling="CT1")
    without_envelope(edge.spool.root, Place.INCOMING, result, calling="APP01")
    put(core, Place.SENT, kept)
    without_envelope(edge.spool.root, Place.SENT, kept)
    edge.run("UPDATE instances SET reception_id = NULL")
    edge.run("DELETE FROM spool")
    assert rebuild(edge) == {"files": 3, "known": 1, "owed": 1, "delivered": 1}
    rows = edge.rows("SELECT calling_ae_title, kind::text, repeats FROM instances ORDER BY 1")
    assert rows == [("APP01", "result", 0), ("CT1", "original", 0), ("ORTHANC", "original", 0)]
    assert {state[0] for state in states(edge, result)} == {"pending"}
    before = everything(edge)
    assert rebuild(edge) == {"files": 3, "known": 3}
    assert everything(edge) == before


def test_what_is_no_whole_instance_is_told_and_not_registered(core: Forwarding) -> None:
    """Damaged files go to damaged/; unfinished, strange and older ones stay where they are."""
    edge = core.edge
    damaged, older = put(core, Place.INCOMING), put(core, Place.SENT)
    [path] = (edge.spool.root / "incoming" / damaged.study_instance_uid).iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"!")
    unfinished = path.with_name("1.2.3.4.dcm")
    unfinished.write_bytes(content.replace(b"MPE3", b"\0\0\0\0"))
    strange = path.with_name("1.2.3.5.dcm")
    strange.write_bytes(b"no DICOM")
    identity = read_identity(edge.spool.root)
    assert identity is not None
    write_identity(edge.spool.root, Identity(identity.name, 2), replace=True)
    lose(edge)
    counts = rebuild(edge)
    assert counts == {"files": 4, "damaged": 1, "unfinished": 1, "unreadable": 1, "older_epoch": 1}
    assert edge.one("SELECT count(*) FROM instances") == 0
    assert len(list((edge.spool.root / DAMAGED).glob("*/*.dcm"))) == 1
    assert unfinished.exists()
    assert strange.exists()
    assert (edge.spool.root / "sent" / older.study_instance_uid).exists()


def test_a_file_of_a_living_receiver_is_left_to_it(core: Forwarding) -> None:
    """Its `.part` link says so; of a dead receiver it is registered."""
    edge = core.edge
    core.received(Instance())
    lose(edge)
    assert rebuild(edge) == {"files": 1, "left_to_receivers": 1}
    core.spool.close_receiver()
    lose(edge)
    assert rebuild(edge) == {"files": 1, "owed": 1}
    core.spool.open_receiver()


def test_a_new_disk_is_paired_with_the_database(core: Forwarding) -> None:
    """What has no file there stays owed in the rows; an attempt then finds no file."""
    edge = core.edge
    put(core, Place.INCOMING)
    with edge.database.statement() as session:
        edge.identity.check(session)
    edge.spool.root.rename(edge.spool.root.with_name("lost"))
    edge.spool.root.mkdir()
    refused = edge.start("mini-pacs", "sweep")
    assert refused.wait(60) == 1
    assert "`mini-pacs db rebuild`" in refused.text()
    assert rebuild(edge) == {}
    with edge.database.statement() as session:
        edge.identity.check(session)
    assert edge.start("mini-pacs", "sweep").wait(60) == 0


def test_the_instances_of_two_edges_are_never_mixed(core: Forwarding) -> None:
    """Both have names and hold instances: nothing is done, and both stay as they are."""
    edge = core.edge
    put(core, Place.INCOMING)
    edge.run("UPDATE spool SET name = gen_random_uuid()")
    before = everything(edge), (edge.spool.root / ID).read_text(), edge.rows("SELECT * FROM spool")
    assert "would mix" in rebuild(edge, code=1)["error"]
    assert (everything(edge), (edge.spool.root / ID).read_text(), edge.rows("SELECT * FROM spool")) == before


def test_a_rebuild_that_was_killed_is_run_again(core: Forwarding) -> None:
    """Until it ends the pair stays unknown; then each instance is there once."""
    edge = core.edge
    instances = [put(core, Place.INCOMING, Instance(study_instance_uid="1.2.3")) for _ in range(300)]
    lose(edge)
    process = edge.start("mini-pacs", "db", "rebuild", "--yes")
    wait_until(lambda: edge.one("SELECT count(*) FROM instances") > 0, 60, "the first batch")
    process.kill()
    done = edge.one("SELECT count(*) FROM spool")
    counts = rebuild(edge)
    assert done or counts["known"] >= 1
    assert counts["files"] == len(instances) == edge.one("SELECT count(*) FROM instances")
    assert edge.one("SELECT count(*) FROM deliveries WHERE state = 'pending'") == edge.queued()


def test_the_question_says_what_is_there(core: Forwarding) -> None:
    """How many files, and why; the answer no changes nothing."""
    edge = core.edge
    put(core, Place.INCOMING)
    lose(edge)
    process = edge.start("sh", "-c", 'echo n | "$@"', "sh", *command("mini-pacs", "db", "rebuild"))
    assert process.wait(60) == 1
    assert "Register the 1 files of" in process.text()
    assert "incoming 1, queued 0, sent 0, failed 0" in process.text()
    assert edge.one("SELECT count(*) FROM instances") == 0
