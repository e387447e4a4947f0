"""Presentation contexts: what a requestor proposes, and the acceptor's decision on each.

No table is copied for an association: the decision on 128 contexts needs 128 look-ups.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from gateway.domain.identifiers import is_uid

VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"  # retired in PS3.5 2006; some modalities still send it

UNCOMPRESSED = (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, EXPLICIT_BIG_ENDIAN)
"""The order of preference if a context offers several and the configuration names none."""

MAX_CONTEXTS = 128
"""Context ids are odd and one byte long: PS3.8 §9.3.2.2, Table 9-13."""

# PS3.8 §9.3.3.2, Table 9-18
ACCEPTANCE = 0
ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED = 4

_RETIRED_PREFIX = "1.2.840.10008.5.1.4.1.1."


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context that we propose: one SOP Class in one transfer syntax."""

    sop_class_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Offer:
    """One presentation context item of an A-ASSOCIATE-RQ: PS3.8 §9.3.2.2, Table 9-13."""

    context_id: int
    abstract_syntax_uid: str
    transfer_syntax_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The acceptor's decision on one offer; the transfer syntax is significant only for an acceptance."""

    context_id: int
    result: int
    transfer_syntax_uid: str


@cache
def storage_sop_classes() -> frozenset[str]:
    """Return the patient-related Storage SOP Class UIDs of PS3.4 §B.5, with those that are retired.

    The first call imports the tables. The actors never call this, and so need 40 MB less.
    """
    from pydicom._uid_dict import UID_dictionary  # noqa: PLC0415  see above
    from pynetdicom.presentation import AllStoragePresentationContexts  # noqa: PLC0415

    current = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    retired = {
        uid
        for uid, (name, kind, _, retired, _) in UID_dictionary.items()
        if kind == "SOP Class" and retired and uid.startswith(_RETIRED_PREFIX) and " Storage" in name
    }
    return frozenset(current | retired)


def accept(
    offers: Iterable[Offer], accepted_sop_classes: Collection[str], transfer_syntaxes: Sequence[str] = ()
) -> tuple[Answer, ...]:
    """Return the acceptor's decision on each offer, in their order.

    A context for one of `accepted_sop_classes` is accepted in the first of `transfer_syntaxes` that it
    offers; if it offers none of them, it is not accepted. If `transfer_syntaxes` is empty, every transfer
    syntax is acceptable. Then the answer is the first of UNCOMPRESSED that is offered, or else the first
    offered one that is a valid UID. Verification is accepted without being in `accepted_sop_classes`.
    """
    return tuple(_answer(offer, accepted_sop_classes, transfer_syntaxes) for offer in offers)


def declined(offers: Iterable[Offer], answers: Iterable[Answer]) -> list[tuple[Offer, Answer]]:
    """Return the offers that were not accepted, each with its answer."""
    pairs = zip(offers, answers, strict=True)
    return [(offer, answer) for offer, answer in pairs if answer.result != ACCEPTANCE]


def _answer(offer: Offer, accepted_sop_classes: Collection[str], transfer_syntaxes: Sequence[str]) -> Answer:
    offered = offer.transfer_syntax_uids
    if offer.abstract_syntax_uid == VERIFICATION:
        for uid in (IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN):
            if uid in offered:
                return Answer(offer.context_id, ACCEPTANCE, uid)
    elif offer.abstract_syntax_uid not in accepted_sop_classes:
        # The item must be present although its value is not significant: PS3.8 §9.3.3.2, Table 9-18.
        return Answer(offer.context_id, ABSTRACT_SYNTAX_NOT_SUPPORTED, IMPLICIT_LITTLE_ENDIAN)
    for uid in transfer_syntaxes or (*UNCOMPRESSED, *offered):
        if uid in offered and is_uid(uid):
            return Answer(offer.context_id, ACCEPTANCE, uid)
    return Answer(offer.context_id, TRANSFER_SYNTAXES_NOT_SUPPORTED, IMPLICIT_LITTLE_ENDIAN)
