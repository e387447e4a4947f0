"""PDUs, command sets and contexts: we and pydicom decode what we encode; noise is refused."""

import itertools
import time

import pynetdicom.pdu
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from support.dicom_peers import CT, EXPLICIT, IMPLICIT

from gateway.dicom import command, contexts, negotiation, pdu
from gateway.dicom.contexts import VERIFICATION, Answer, Offer, accept, storage_sop_classes
from gateway.dicom.p_data import PduBuffers, pdu_batches, readable
from gateway.receive.declined_contexts import describe

JPEG, BIG_ENDIAN = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.2"
UIDS = st.from_regex(r"[1-9][0-9]{0,3}(\.[1-9][0-9]{0,8}){1,5}", fullmatch=True)


def request(offers: list[Offer]) -> bytes:
    """Return an A-ASSOCIATE-RQ for them."""
    return negotiation.encode_request(
        called_ae_title="EDGE", calling_ae_title="US", offers=offers, max_pdu_bytes=4711
    )


@given(st.lists(st.tuples(UIDS, st.lists(UIDS, max_size=4)), max_size=20))
def test_a_request_is_read_back_by_us_and_by_pynetdicom(proposed: list[tuple[str, list[str]]]) -> None:
    """PS3.8 §9.3.2."""
    offers = [Offer(2 * i + 1, uid, tuple(syntaxes)) for i, (uid, syntaxes) in enumerate(proposed)]
    raw = request(offers)
    decoded = negotiation.decode_request(raw[6:])
    assert decoded.offers == tuple(offers)
    assert (decoded.called_ae_title.strip(), decoded.calling_ae_title.strip()) == (b"EDGE", b"US")
    assert decoded.max_pdu_bytes == 4711
    theirs = pynetdicom.pdu.A_ASSOCIATE_RQ()
    theirs.decode(raw)
    assert [item.abstract_syntax for item in theirs.presentation_context] == [uid for uid, _ in proposed]
    answers = tuple(
        Answer(o.context_id, 0, o.transfer_syntax_uids[0]) for o in offers if o.transfer_syntax_uids
    )
    accepted = negotiation.encode_accept(decoded, answers, 16_384)
    assert negotiation.decode_accept(accepted[6:]) == negotiation.AssociateAccept(answers, 16_384)
    ours = pynetdicom.pdu.A_ASSOCIATE_AC()
    ours.decode(accepted)
    assert len(ours.presentation_context) == len(answers)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_noise_is_refused_by_pdu_errors_only(noise: bytes, at: int) -> None:
    """Whatever follows the header of an A-ASSOCIATE, only `PduError` is raised."""
    body = request([Offer(1, CT, (IMPLICIT, EXPLICIT)), Offer(3, VERIFICATION, (IMPLICIT,))])[6:]
    for raw in (noise, body[:at] + noise, body[:at] + noise + body[at + len(noise) :], body[:at]):
        for decode in (negotiation.decode_request, negotiation.decode_accept, command.CommandSet):
            try:
                decode(raw)
            except pdu.PduError:
                continue


def test_negotiating_128_contexts_is_cheap() -> None:
    """Decode, decide and encode take milliseconds of CPU time."""
    classes = sorted(storage_sop_classes())[:128]
    raw = request([Offer(2 * i + 1, uid, (EXPLICIT, IMPLICIT)) for i, uid in enumerate(classes)])
    best = float("inf")
    for _ in range(20):
        began = time.thread_time()
        decoded = negotiation.decode_request(raw[6:])
        negotiation.encode_accept(decoded, accept(decoded.offers, storage_sop_classes()), 131_072)
        best = min(best, time.thread_time() - began)
    assert best < 0.005


def test_the_answer_to_each_proposed_context() -> None:
    """PS3.8 §9.3.3.2, Table 9-18."""
    offers = [
        Offer(1, CT, ("1.2.840.113619.5.2", JPEG)),
        Offer(3, CT, ("not a uid", EXPLICIT)),
        Offer(5, CT, ("../../etc",)),
        Offer(7, CT, ()),
        Offer(9, "1.2.840.10008.5.1.4.1.2.1.1", (IMPLICIT,)),
        Offer(11, VERIFICATION, (JPEG, EXPLICIT, IMPLICIT)),
        Offer(13, VERIFICATION, (JPEG,)),
        Offer(15, CT, (JPEG, BIG_ENDIAN, IMPLICIT)),
        Offer(17, CT, (IMPLICIT, JPEG, EXPLICIT)),
    ]
    answers = {a.context_id: (a.result, a.transfer_syntax_uid) for a in accept(offers, frozenset({CT}))}
    assert answers[1] == (contexts.ACCEPTANCE, "1.2.840.113619.5.2")
    assert answers[3] == (contexts.ACCEPTANCE, EXPLICIT)
    assert answers[5][0] == answers[7][0] == contexts.TRANSFER_SYNTAXES_NOT_SUPPORTED
    assert answers[9][0] == contexts.ABSTRACT_SYNTAX_NOT_SUPPORTED
    assert answers[11] == (contexts.ACCEPTANCE, IMPLICIT)
    assert answers[13][0] == contexts.ACCEPTANCE
    assert answers[15] == (contexts.ACCEPTANCE, IMPLICIT)
    assert answers[17] == (contexts.ACCEPTANCE, EXPLICIT)


SYNTAXES = st.lists(
    st.sampled_from([IMPLICIT, EXPLICIT, BIG_ENDIAN, JPEG, "1.2.840.10008.1.2.4.90"]), unique=True
)


@given(SYNTAXES, SYNTAXES)
def test_the_first_offered_syntax_of_the_preference_is_accepted(
    offered: list[str], preference: list[str]
) -> None:
    """Without a preference an uncompressed one, else the sender's first; with one, no other."""
    [answer] = accept([Offer(1, CT, tuple(offered))], frozenset({CT}), preference)
    order = preference or [EXPLICIT, IMPLICIT, BIG_ENDIAN, *offered]
    expected = next((uid for uid in order if uid in offered), None)
    if expected is None:
        assert answer.result == contexts.TRANSFER_SYNTAXES_NOT_SUPPORTED
    else:
        assert (answer.result, answer.transfer_syntax_uid) == (contexts.ACCEPTANCE, expected)
    assert bool(contexts.declined([Offer(1, CT, tuple(offered))], [answer])) == (expected is None)


def test_declined_contexts_are_named_in_a_bounded_line() -> None:
    """A SOP Class once, its transfer syntaxes by name; a hostile offer makes no long line."""
    worklist = "1.2.840.10008.5.1.4.31"
    offers = [
        Offer(1, worklist, (IMPLICIT,)),
        Offer(3, worklist, (JPEG,)),
        Offer(5, CT, ("1.2.840.10008.1.2.4.90",)),
        Offer(7, "x" * 5000, ()),
    ]
    pairs = contexts.declined(offers, accept(offers, frozenset({CT}), (EXPLICIT,)))
    text = describe(pairs)
    assert "Modality Worklist Information Model - FIND (1.2.840.10008.5.1.4.31) in" in text
    assert text.count(worklist) == 1
    assert "Implicit VR Little Endian" in text.replace(": Default Transfer Syntax for DICOM", "")
    assert f"JPEG Baseline (Process 1) ({JPEG})" in text
    assert "CT Image Storage (1.2.840.10008.5.1.4.1.1.2) in JPEG 2000" in text
    assert "an invalid UID in no transfer syntax" in text
    many = [Offer(1, f"1.2.3.{n}", tuple(f"1.2.4.{m}" for m in range(50))) for n in range(128)]
    text = describe(contexts.declined(many, accept(many, frozenset())))
    assert "and 120 more" in text
    assert len(text) < 10_000


def test_storage_sop_classes_are_patient_related() -> None:
    """The required and retired ones, without Verification and classes that belong to no patient."""
    classes = storage_sop_classes()
    assert {CT, "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.7"} <= classes
    assert "1.2.840.10008.5.1.4.1.1.6" in classes  # Ultrasound, retired
    assert VERIFICATION not in classes
    assert "1.2.840.10008.5.1.4.39.1" not in classes  # Color Palette
    assert len(classes) > 180


PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=80)
"""What an error comment is made of: gateway.domain.identifiers.printable."""


@given(UIDS, UIDS, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), PRINTABLE)
def test_command_sets_are_read_back_by_us_and_by_pydicom(
    sop_class_uid: str, sop_instance_uid: str, message_id: int, status: int, comment: str
) -> None:
    """PS3.7 §6.3: group length, order and padding."""
    raw = command.c_store_request(message_id, sop_class_uid, sop_instance_uid, 1)
    decoded = command.CommandSet(raw)
    assert decoded.text(command.AFFECTED_SOP_CLASS_UID) == sop_class_uid
    assert decoded.number(command.MESSAGE_ID) == message_id
    assert decoded.has_data_set()
    answer = command.response(decoded, status, comment)
    theirs = dcmread(DicomBytesIO(answer), force=True)
    assert theirs.CommandGroupLength == len(answer) - 12
    assert theirs.Status == status
    assert theirs.MessageIDBeingRespondedTo == message_id
    assert theirs.AffectedSOPInstanceUID == sop_instance_uid
    assert len(answer) % 2 == 0
    tags = [element.tag for element in theirs]
    assert tags == sorted(tags)


USED_BEFORE = PduBuffers()
"""They hold what earlier messages left, of other sizes."""


class _Slow:
    """Reads fewer bytes than asked for, as a socket or pipe may."""

    def __init__(self, data: bytes, steps: list[int]) -> None:
        self._data = memoryview(data)
        self._steps = itertools.cycle(steps)

    def readinto(self, buffer: memoryview, /) -> int:
        """At most the next step."""
        count = min(next(self._steps), len(buffer), len(self._data))
        buffer[:count] = self._data[:count]
        self._data = self._data[count:]
        return count


@given(
    length=st.integers(0, 3000) | st.sampled_from([262_144, 262_138 * 2, 600_000]),
    fragment=st.sampled_from([2, 14, 100, 16_378, 131_066]),
    steps=st.lists(st.integers(1, 5000), min_size=1, max_size=3),
    as_file=st.booleans(),
)
def test_fragments_carry_the_data_set(length: int, fragment: int, steps: list[int], *, as_file: bool) -> None:
    """Any sizes: the bytes are complete, in PDVs that fit, and only the last is marked as last."""
    if fragment < 1000:
        length = min(length, 3000)
    data = (b"0123456789" * (length // 10 + 1))[:length]
    head = pdu.command_pdus(5, b"command!", fragment + 6)
    source = (
        _Slow(data, [step * 50 for step in steps])
        if as_file
        else readable(data[i : i + 700] for i in range(0, length, 700))
    )
    raw = b"".join(bytes(batch) for batch in pdu_batches(head, 5, source, fragment, USED_BEFORE))
    assert raw.startswith(head)
    position, got, controls = len(head), b"", []
    while position < len(raw):
        kind, pdu_length, pdv_length, context_id, control = pdu.DATA_PDU_HEADER.unpack_from(raw, position)
        assert (kind, context_id, pdu_length) == (pdu.P_DATA_TF, 5, pdv_length + 4)
        assert pdv_length - 2 <= fragment
        got += raw[position + 12 : position + 6 + pdu_length]
        controls.append(control)
        position += 6 + pdu_length
    assert got == data
    assert controls == [0] * (len(controls) - 1) + [pdu.IS_LAST]


@pytest.mark.parametrize("limit", [0, 1, 7, 8, 16_384, 1 << 31])
def test_a_fragment_is_even_and_bounded(limit: int) -> None:
    """PS3.8 §D.1: at most the peer's maximum, of even length, and at most our own maximum."""
    size = pdu.largest_fragment(limit)
    assert size % 2 == 0
    assert 2 <= size <= pdu.OUR_MAX_PDU_BYTES
    if limit >= 8:
        assert size + 6 <= limit
