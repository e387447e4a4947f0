"""A-ASSOCIATE-RQ and A-ASSOCIATE-AC: PS3.8 §9.3.2 and §9.3.3.

pynetdicom's codec needs 9 ms for 128 contexts. This would nearly double the time of an association that
carries one small image (10 ms). The codec here needs a twentieth of the 9 ms, and raises only `PduError`.

Role selection, asynchronous operations, extended negotiation and user identity are ignored and not answered.
By PS3.7 §D.3.3 that means: default roles, one operation at a time, no extended negotiation, no identity.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gateway.dicom.contexts import ACCEPTANCE, Answer, Offer
from gateway.dicom.pdu import ASSOCIATE_AC, ASSOCIATE_RQ, HEADER, PduError

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"  # PS3.7 §A.2.1
IMPLEMENTATION_CLASS_UID = "2.25.145022135590737274462428285264245548865"  # from a UUID: PS3.5 §B.2
IMPLEMENTATION_VERSION_NAME = "MINI_PACS_EDGE_1"

_PROTOCOL_VERSION_1 = 0x0001
_FIXED = struct.Struct(">HH16s16s32s")  # protocol version, reserved, called and calling AE title, reserved
_ITEM = struct.Struct(">BxH")

# PS3.8 §9.3.2 and PS3.7 §D.3.3
_APPLICATION_CONTEXT_ITEM = 0x10
_OFFER_ITEM = 0x20
_ANSWER_ITEM = 0x21
_ABSTRACT_SYNTAX_ITEM = 0x30
_TRANSFER_SYNTAX_ITEM = 0x40
_USER_INFORMATION_ITEM = 0x50
_MAXIMUM_LENGTH_ITEM = 0x51
_IMPLEMENTATION_CLASS_ITEM = 0x52
_IMPLEMENTATION_VERSION_ITEM = 0x55

_MAXIMUM_LENGTH_BYTES = 4
_CONTEXT_HEADER_BYTES = 4


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """The content of an A-ASSOCIATE-RQ; `max_pdu_bytes` is 0 if the peer sets no limit."""

    protocol_version: int
    called_ae_title: bytes
    calling_ae_title: bytes
    application_context: str
    offers: tuple[Offer, ...]
    max_pdu_bytes: int

    def speaks_version_1(self) -> bool:
        """Tell whether bit 0 is set; no other bit may be tested: PS3.8 §9.3.2, Table 9-11."""
        return bool(self.protocol_version & _PROTOCOL_VERSION_1)


@dataclass(frozen=True, slots=True)
class AssociateAccept:
    """The content of an A-ASSOCIATE-AC; `max_pdu_bytes` is 0 if the peer sets no limit."""

    answers: tuple[Answer, ...]
    max_pdu_bytes: int


def text_of(raw: bytes | memoryview) -> str:
    """Return a string without its padding (NUL by PS3.5 §9.1, or blanks); it is not validated.

    The string ends at its first NUL, as in DCMTK and other programs that use the strings of C. PostgreSQL
    accepts no NUL in a text.
    """
    return str(raw, "ascii", "replace").partition("\0")[0].strip(" ")


def ae_title_field(ae_title: str) -> bytes:
    """Return an AE title as 16 bytes, padded with blanks: PS3.8 §9.3.2, Table 9-11."""
    return ae_title.encode("ascii", "replace")[:16].ljust(16)


def encode_request(
    *, called_ae_title: str, calling_ae_title: str, offers: Sequence[Offer], max_pdu_bytes: int
) -> bytes:
    """Return an A-ASSOCIATE-RQ, without role selection and for one operation at a time."""
    contexts = [
        _item(
            _OFFER_ITEM,
            bytes((offer.context_id, 0, 0, 0)),
            _item(_ABSTRACT_SYNTAX_ITEM, offer.abstract_syntax_uid.encode("ascii", "replace")),
            *(
                _item(_TRANSFER_SYNTAX_ITEM, uid.encode("ascii", "replace"))
                for uid in offer.transfer_syntax_uids
            ),
        )
        for offer in offers
    ]
    ae_titles = ae_title_field(called_ae_title) + ae_title_field(calling_ae_title)
    return _pdu(ASSOCIATE_RQ, ae_titles, contexts, max_pdu_bytes)


def encode_accept(request: AssociateRequest, answers: Iterable[Answer], max_pdu_bytes: int) -> bytes:
    """Return an A-ASSOCIATE-AC; it repeats the AE titles of the request: PS3.8 §9.3.3, Table 9-17."""
    contexts = [
        _item(
            _ANSWER_ITEM,
            bytes((answer.context_id, 0, answer.result, 0)),
            _item(_TRANSFER_SYNTAX_ITEM, answer.transfer_syntax_uid.encode("ascii", "replace")),
        )
        for answer in answers
    ]
    ae_titles = request.called_ae_title + request.calling_ae_title
    return _pdu(ASSOCIATE_AC, ae_titles, contexts, max_pdu_bytes)


def decode_request(body: bytes) -> AssociateRequest:
    """Decode the body of an A-ASSOCIATE-RQ.

    Raises:
        PduError: an item is cut off, or a context id is even or used twice.
    """
    version, called, calling = _fixed_fields(body)
    application_context, max_pdu_bytes = "", 0
    offers: dict[int, Offer] = {}
    for kind, value in _items(body, _FIXED.size):
        if kind == _APPLICATION_CONTEXT_ITEM:
            application_context = text_of(value)
        elif kind == _OFFER_ITEM:
            offer = _offer(value)
            if offers.setdefault(offer.context_id, offer) is not offer:
                raise PduError(f"presentation context id {offer.context_id} proposed twice")
        elif kind == _USER_INFORMATION_ITEM:
            max_pdu_bytes = _maximum_length(value)
    return AssociateRequest(
        version, called, calling, application_context, tuple(offers.values()), max_pdu_bytes
    )


def decode_accept(body: bytes) -> AssociateAccept:
    """Decode the body of an A-ASSOCIATE-AC.

    Raises:
        PduError: an item is cut off.
    """
    _fixed_fields(body)
    max_pdu_bytes = 0
    answers: list[Answer] = []
    for kind, value in _items(body, _FIXED.size):
        if kind == _ANSWER_ITEM:
            answers.append(_answer(value))
        elif kind == _USER_INFORMATION_ITEM:
            max_pdu_bytes = _maximum_length(value)
    return AssociateAccept(tuple(answers), max_pdu_bytes)


# ---- items -------------------------------------------------------------------------------------------


def _item(kind: int, *parts: bytes) -> bytes:
    value = b"".join(parts)
    return _ITEM.pack(kind, len(value)) + value


def _pdu(pdu_type: int, ae_titles: bytes, contexts: list[bytes], max_pdu_bytes: int) -> bytes:
    body = b"".join(
        (
            _FIXED.pack(_PROTOCOL_VERSION_1, 0, ae_titles[:16], ae_titles[16:], bytes(32)),
            _item(_APPLICATION_CONTEXT_ITEM, APPLICATION_CONTEXT.encode()),
            *contexts,
            _item(
                _USER_INFORMATION_ITEM,
                _item(_MAXIMUM_LENGTH_ITEM, max_pdu_bytes.to_bytes(_MAXIMUM_LENGTH_BYTES, "big")),
                _item(_IMPLEMENTATION_CLASS_ITEM, IMPLEMENTATION_CLASS_UID.encode()),
                _item(_IMPLEMENTATION_VERSION_ITEM, IMPLEMENTATION_VERSION_NAME.encode()),
            ),
        )
    )
    return HEADER.pack(pdu_type, len(body)) + body


def _fixed_fields(body: bytes) -> tuple[int, bytes, bytes]:
    if len(body) < _FIXED.size:
        raise PduError(f"A-ASSOCIATE of {len(body)} bytes")
    version, _, called, calling, _ = _FIXED.unpack_from(body)
    return version, called, calling


def _items(body: bytes, position: int) -> Iterator[tuple[int, bytes]]:
    end = len(body)
    while position < end:
        if end - position < _ITEM.size:
            raise PduError("item header cut off in an A-ASSOCIATE")
        kind, length = _ITEM.unpack_from(body, position)
        position += _ITEM.size
        if length > end - position:
            raise PduError(f"item 0x{kind:02X} cut off in an A-ASSOCIATE")
        yield kind, body[position : position + length]
        position += length


def _offer(value: bytes) -> Offer:
    if len(value) < _CONTEXT_HEADER_BYTES:
        raise PduError("presentation context item cut off")
    context_id = value[0]
    if context_id % 2 == 0:
        raise PduError(f"presentation context id {context_id} is even")
    abstract_syntax_uid = ""
    transfer_syntax_uids: list[str] = []
    for kind, name in _items(value, _CONTEXT_HEADER_BYTES):
        if kind == _ABSTRACT_SYNTAX_ITEM:
            abstract_syntax_uid = text_of(name)
        elif kind == _TRANSFER_SYNTAX_ITEM:
            transfer_syntax_uids.append(text_of(name))
    return Offer(context_id, abstract_syntax_uid, tuple(transfer_syntax_uids))


def _answer(value: bytes) -> Answer:
    if len(value) < _CONTEXT_HEADER_BYTES:
        raise PduError("presentation context item cut off")
    transfer_syntax_uid = ""
    if value[2] == ACCEPTANCE:
        # In other answers it is not significant, and often malformed (PS3.8 §9.3.3.2).
        for kind, name in _items(value, _CONTEXT_HEADER_BYTES):
            if kind == _TRANSFER_SYNTAX_ITEM:
                transfer_syntax_uid = text_of(name)
    return Answer(value[0], value[2], transfer_syntax_uid)


def _maximum_length(value: bytes) -> int:
    for kind, field in _items(value, 0):
        if kind == _MAXIMUM_LENGTH_ITEM and len(field) == _MAXIMUM_LENGTH_BYTES:
            return int.from_bytes(field, "big")
    return 0
