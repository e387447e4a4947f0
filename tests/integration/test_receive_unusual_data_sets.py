"""Data sets and texts that are wrong and harmless: accepted as PACSs do, and delivered as received."""

import itertools
import os
import struct
from collections.abc import Iterator
from hashlib import sha256

import pytest
from conftest import MakeEdge
from support.dicom_peers import EXPLICIT
from support.edge_setup import EdgeSetup
from support.forwarding import Forwarding, forwarding, pacs_of
from support.synthetic_instances import Instance, new_uid, result_of

from gateway.database.queries import Query
from gateway.dicom.contexts import ProposedContext
from gateway.dicom.policy import Requestor, StoreRequest
from gateway.domain.outcome import Outcome
from gateway.errors import (
    DatabaseRefusedError,
    SpoolFullError,
)
from gateway.forward.deliver import forward_to_pacs
from gateway.receive.c_store import CStoreHandler
from gateway.spool.partial import Partial

WORKER = "APP01"


@pytest.fixture
def edge(make_edge: MakeEdge) -> EdgeSetup:
    """Return an edge whose SCP runs; no actor takes its deliveries."""
    edge = make_edge()
    edge.serve()
    return edge


@pytest.fixture
def core(edge: EdgeSetup) -> Iterator[Forwarding]:
    """Yield the core beside the SCP, to deliver what was received."""
    with forwarding(edge) as core:
        yield core


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """Return an element in Explicit VR Little Endian, with a length of two bytes."""
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def sequence(group: int, number: int, content: bytes) -> bytes:
    """Return a sequence with one item; both have a length."""
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
    return struct.pack("<HH2sHI", group, number, b"SQ", 0, len(item)) + item


def send(edge: EdgeSetup, instance: Instance, raw: bytes, calling: str = "ORTHANC") -> tuple[int, str]:
    """Send `raw` as that instance; return status and comment."""
    with edge.association([instance.context], calling) as association:
        return association.store(instance.context, instance.sop_instance_uid, [raw])


def behind_series(instance: Instance, late: bytes) -> bytes:
    """Return the data set with `late` after (0020,000E)."""
    raw = instance.data_set()
    at = raw.index(struct.pack("<HH", 0x7FE0, 0x10))
    return raw[:at] + late + raw[at:]


HEADS = {
    "transfer syntax": element(2, 0x10, b"UI", EXPLICIT.encode() + b"\0"),
    "group length": element(2, 0, b"UL", b"\xff\0\0\0"),
    "all of a File Meta": element(2, 0, b"UL", b"\x1a\0\0\0")
    + element(2, 0x10, b"UI", EXPLICIT.encode() + b"\0"),
    "private information": struct.pack("<HH2sHI", 2, 0x102, b"OB", 0, 4) + b"abcd",
    "group 0001": element(1, 0x10, b"LO", b"SYNTH "),
    "group 0004": element(4, 0x1130, b"CS", b"SYNTH "),
    "group 0006": element(6, 0x10, b"??", b"SYNTH "),
}


@pytest.mark.guarantee("G3")
def test_leading_elements_of_a_wrong_group_are_delivered(core: Forwarding) -> None:
    """The data set is acknowledged, and delivered byte for byte."""
    for name, head in HEADS.items():
        instance = Instance()
        raw = head + instance.data_set()
        assert send(core.edge, instance, raw) == (0, ""), name
        with pacs_of(core) as pacs:
            assert forward_to_pacs(core.context, core.edge.delivery(instance)["id"]) is Outcome.DELIVERED, (
                name
            )
            assert [taken.digest for taken in pacs.taken] == [sha256(raw).hexdigest()], name


DEFECTS = {
    "no VR": element(0x21, 0x10, b"LO", b"SYNTH ") + element(0x21, 0x1001, b"??", b"ABCD"),
    "a length beyond the end": element(0x21, 0x10, b"LO", b"SYNTH ") + b"\x21\0\x01\x10LO\xff\xff",
    "a broken sequence": sequence(8, 0x1140, element(8, 0x1155, b"UI", b"1.2\0")[:-3] + b"\xff" * 20),
    "zeros": bytes(12),
    "an open sequence": struct.pack("<HH2sHI", 0x5200, 0x9229, b"SQ", 0, 0xFFFF_FFFF) + bytes(8),
}


def test_a_result_is_read_no_more_strictly_than_an_original(edge: EdgeSetup) -> None:
    """A defect after the UIDs loses at most the references that follow it."""
    for name, defect in DEFECTS.items():
        source, original = Instance(), Instance()
        assert edge.send(source) == [0]
        result = result_of(source)
        assert send(edge, original, behind_series(original, defect)) == (0, ""), name
        assert send(edge, result, behind_series(result, defect), WORKER) == (0, ""), name
        found = edge.one(
            "SELECT correlation::text FROM instances WHERE sop_instance_uid = %(uid)s",
            uid=result.sop_instance_uid,
        )
        assert found == "references", name


def test_a_defect_among_the_references_is_a_line_in_the_log(edge: EdgeSetup) -> None:
    """The line names tag and offset."""
    source = Instance()
    result = result_of(source)
    raw = behind_series(result, DEFECTS["a length beyond the end"])
    assert send(edge, result, raw, WORKER) == (0, "")
    line = edge.wait_log(outcome="references_cut_off")
    assert line["sop_instance_uid"] == result.sop_instance_uid
    assert line["error"].startswith("(0021,1001) at byte ")


def test_a_reference_with_an_invalid_uid_is_ignored(edge: EdgeSetup) -> None:
    """Text that PostgreSQL does not accept never reaches it."""
    for reference in (b"1.2.3\0\xcc\xcc", b"\0\0\0\0", b"../../x\0", b"\xff\xfe"):
        result = result_of(study=new_uid())
        raw = result.data_set()
        at = raw.index(struct.pack("<HH", 0x10, 0x10))
        raw = raw[:at] + sequence(8, 0x2112, element(8, 0x1155, b"UI", reference)) + raw[at:]
        assert send(edge, result, raw, WORKER) == (0, ""), reference
    assert edge.one("SELECT count(*) FROM instances") == len(edge.files()) == 4


TEXTS = (b"A\0B", b"\0\0", b"\xff\xfe\xfd\xfc", b"\x1b[2J\r\n", b"\xed\xa0\x80 ", b"' OR 1=1 --\0")


def test_any_text_in_an_attribute_is_accepted(edge: EdgeSetup) -> None:
    """Modality, Series Description and others, from a sender and from a worker, without a traceback."""
    tags = ((8, 0x60), (8, 0x103E), (0x10, 0x20), (8, 5))
    for tag, text, calling in itertools.product(tags, TEXTS, ("ORTHANC", WORKER)):
        instance = Instance(series_description="", modality="")
        raw = element(*tag, b"LO", text) + instance.data_set()
        assert send(edge, instance, raw, calling) == (0, ""), (tag, text)
    assert not edge.log(status="0x0110")


def test_a_transfer_syntax_that_is_no_uid_is_not_accepted(edge: EdgeSetup) -> None:
    """It would be written to the row, and proposed to the PACS."""
    instance = Instance()
    odd = [ProposedContext(instance.sop_class_uid, uid) for uid in ("1.2\n", "1.2/3", "1.2.3x", "", "1" * 65)]
    with edge.association([instance.context, *odd]) as association:
        assert association.accepted == {instance.context}


def test_an_ae_title_ends_at_its_nul(edge: EdgeSetup) -> None:
    """DCMTK and Orthanc read it the same way; the text after the NUL is in no log line and no row."""
    instance = Instance()
    with edge.association([instance.context], "ORTHANC\0X") as association:
        assert association.store(instance.context, instance.sop_instance_uid, [instance.data_set()])[0] == 0
    assert edge.one("SELECT calling_ae_title FROM instances") == "ORTHANC"


ODD_UIDS = [
    Instance(study_instance_uid="1.2." + "3" * 61, series_instance_uid="1.2." + "3" * 124),
    Instance(study_instance_uid="1.2." + "3" * 124, series_instance_uid="1.2."),
    Instance("1.2.3.", "1.2.3.", "1..2"),
    Instance("1..2", "1..2", "1.2"),
]
"""Too long, with a dot at the end, with an empty component."""


def test_wrong_and_harmless_uids_are_accepted(core: Forwarding) -> None:
    """The instances are delivered."""
    for instance in ODD_UIDS:
        assert send(core.edge, instance, instance.data_set()) == (0, ""), instance
        core.edge.check_ledger([instance])
        with pacs_of(core) as pacs:
            assert forward_to_pacs(core.context, core.edge.delivery(instance)["id"]) is Outcome.DELIVERED
            assert [taken.digest for taken in pacs.taken] == [instance.digest]


def test_invalid_uids_are_refused_by_name(edge: EdgeSetup) -> None:
    """G7: a UID that becomes the name of a folder has digits and dots, and a maximum length."""
    for study in ("1.2." + "3" * 125, "../../x", "1.2.a", ".1", "1.2 .3", "1/2"):
        instance = Instance(study_instance_uid=study)
        status, comment = send(edge, instance, instance.data_set())
        assert (status, comment[:11]) == (0xC000, "(0020,000D)"), study
    assert not edge.files(partial=True)


def test_a_data_set_that_cannot_be_parsed_names_tag_and_offset(edge: EdgeSetup) -> None:
    """The Error Comment and the log have both."""
    instance = Instance()
    raw = (
        element(8, 5, b"CS", b"ISO_IR 100") + struct.pack("<HH2sH", 8, 8, b"CS", 60_000) + instance.data_set()
    )
    assert send(edge, instance, raw) == (0xC000, "(0008,0008) at byte 18: cut off in a value")
    assert "(0008,0008) at byte 18" in edge.log(status="0xC000")[0]["error"]


# ---- unforeseen errors -------------------------------------------------------------------------------


def handler(core: Forwarding, instance: Instance) -> CStoreHandler:
    """Return the reception of a C-STORE that has just begun."""
    request = StoreRequest(1, instance.sop_class_uid, instance.sop_instance_uid, EXPLICIT, 0)
    requestor = Requestor("ORTHANC", "MINI_EDGE", "127.0.0.1", 104)
    return CStoreHandler(core.receiver_context(), requestor, request)


def reception(
    core: Forwarding, instance: Instance, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None
) -> int:
    """Return the status of a C-STORE whose flush raises that error."""

    def fail(*_: object, **__: object) -> object:
        assert error is not None
        raise error

    if error is not None:
        monkeypatch.setattr(Partial, "flush", fail)
    stored = handler(core, instance)
    stored.write(memoryview(instance.data_set()))
    status, _ = stored.finish()
    stored.answered()
    return status


@pytest.mark.guarantee("G6")
def test_an_unforeseen_error_removes_its_file(core: Forwarding, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was committed: no file without a row is left."""
    for error in (ValueError("a NUL"), RuntimeError(), DatabaseRefusedError("no"), SpoolFullError("full")):
        assert reception(core, Instance(), monkeypatch, error) != 0
        assert not core.edge.files(partial=True)


@pytest.mark.parametrize("length", [1_000, 70_000])
def test_a_data_set_that_is_given_in_fragments_is_stored_whole(core: Forwarding, length: int) -> None:
    """Some are held in memory, the others are written by one call."""
    instance = Instance(payload=os.urandom(200_000))
    view = memoryview(instance.data_set())
    fragments = [view[at : at + length] for at in range(0, len(view), length)]
    stored = handler(core, instance)
    for at in range(0, len(fragments), 64):
        stored.write(*fragments[at : at + 64])
    assert stored.finish() == (0, "")
    stored.answered()
    [path] = core.edge.files().values()
    assert path.read_bytes().endswith(instance.data_set())


def test_a_text_that_postgresql_rejects_is_a_refusal(edge: EdgeSetup) -> None:
    """The batch is then committed one by one, so the other instances are kept."""
    with pytest.raises(DatabaseRefusedError), edge.database.transaction() as transaction:
        transaction.one(Query("test", "SELECT %(text)s"), text="A\0B")
    with pytest.raises(DatabaseRefusedError), edge.database.statement() as statement:
        statement.one(Query("test", "SELECT %(text)s"), text="\ud800")
    assert edge.one("SELECT 1") == 1
